/* Every character of a text replaced by its form: normal form and lower case, or what terms are compared by. */
#include "text.h"

#define SINGLE UINT32_C(0x110000)   /* a smaller entry of the table is the one character that stands for another */
#define CONTEXT UINT32_C(0xFFFFFFFF) /* an entry whose form depends on what stands beside it */

/* The characters so far; there is always room for one for each that is still to be read, and a block. */
typedef struct {
    Py_UCS4 *codes;
    Py_ssize_t length, allocated;
} Output;

static int reserve(Output *output, Py_ssize_t more)
{
    Py_ssize_t needed = output->length + more + BLOCK;
    if (needed <= output->allocated)
        return 0;
    needed += output->allocated ? needed / 2 : 0;
    Py_UCS4 *grown = needed > PY_SSIZE_T_MAX / 4 ? NULL : PyMem_Realloc(output->codes, (size_t)needed * sizeof(Py_UCS4));
    if (!grown) {
        PyErr_NoMemory();
        return -1;
    }
    output->codes = grown;
    output->allocated = needed;
    return 0;
}

static inline Py_UCS4 small_ascii(Py_UCS4 code)
{
    return code + (code - 'A' <= 'Z' - 'A' ? 'a' - 'A' : 0);
}

int take_forms(Forms *forms, PyObject *table, PyObject *longer)
{
    if (take_array(&forms->table, table, 4, 1) || take_array(&forms->longer, longer, 4, 0))
        return -1;
    forms->small_ascii = forms->table.count > '~';
    for (Py_UCS4 code = ' '; forms->small_ascii && code <= '~'; code++)
        forms->small_ascii = ((const uint32_t *)forms->table.items)[code] == small_ascii(code);
    return 0;
}

void give_back_forms(Forms *forms)
{
    give_back(&forms->table);
    give_back(&forms->longer);
}

/* How many characters one becomes that is not one, and which; NULL with an exception set. */
static const uint32_t *longer_form(const Forms *forms, Py_UCS4 code, Py_ssize_t *count)
{
    const uint32_t *table = forms->table.items, *longer = forms->longer.items;
    Py_ssize_t place = (Py_ssize_t)(table[code] - SINGLE), all = forms->longer.count;
    if (place >= all || (Py_ssize_t)longer[place] >= all - place) {
        PyErr_Format(PyExc_ValueError, "the form of U+%X lies outside the table", (unsigned)code);
        return NULL;
    }
    *count = (Py_ssize_t)longer[place];
    return &longer[place + 1];
}

/* A block of bytes as characters in small letters, and how many of them, from the first on, are printable ASCII, of which no blank goes where
   there are to be `single_spaces`. */
static inline int fold_block(const uint8_t *restrict bytes, Py_UCS4 *restrict out, int single_spaces, int after_blank)
{
    uint8_t others[BLOCK], blanks[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
        uint8_t from_a = bytes[i] - 'A', from_blank = bytes[i] - ' ';
        uint8_t form = bytes[i] + (from_a <= 'Z' - 'A' ? 'a' - 'A' : 0);
        out[i] = form;
        others[i] = from_blank > '~' - ' ';
        blanks[i] = bytes[i] == ' ';
    }
    uint64_t stops = bits_of(others);
    if (single_spaces) {
        uint64_t blank = bits_of(blanks);
        stops |= blank & (blank << 1 | (uint64_t)after_blank);
    }
    return stops ? lowest(stops) : BLOCK;
}

/* Of the first `most` characters: 1 done, 0 some form depends on its neighbours, -1 with an exception set. Written out for texts with single
   blanks, of which every one is written, and overwritten by what follows unless it is the first behind a word. */
static inline int fold_text(Output *output, const Utf8 *text, Py_ssize_t most, const Forms *forms, int single_spaces)
{
    const uint32_t *table = forms->table.items;
    const uint8_t *bytes = text->bytes.items;
    Py_ssize_t size = text->bytes.count;
    int after_blank = 1;
    if (reserve(output, size))
        return -1;
    Py_UCS4 *end = output->codes;
    for (Py_ssize_t at = 0, taken; at < size && most > 0; at += taken, most--) {
        if (forms->small_ascii && size - at >= BLOCK && (uint8_t)(bytes[at] - ' ') <= '~' - ' ') {
            int plain = fold_block(bytes + at, end, single_spaces, after_blank);
            plain = plain < most ? plain : (int)most;
            if (plain) {
                end += plain;
                after_blank = end[-1] == ' ';
                taken = plain;
                most -= plain - 1;
                continue;
            }
        }
        Py_UCS4 code = bytes[at];
        taken = 1;
        if (code >= 128 && !(taken = decode_character(text, at, &code)))
            return -1;
        if ((Py_ssize_t)code >= forms->table.count || table[code] == CONTEXT)
            return 0;
        const uint32_t *form = &table[code];
        Py_ssize_t count = 1;
        if (*form >= SINGLE) {
            output->length = end - output->codes;
            if (!(form = longer_form(forms, code, &count)) || reserve(output, count + size - at))
                return -1;
            end = output->codes + output->length;
        }
        while (count--) { /* nearly always one */
            int blank = *form == ' ';
            *end = *form++;
            end += !(single_spaces & blank & after_blank);
            after_blank = blank;
        }
    }
    output->length = end - output->codes;
    if (single_spaces && output->length && after_blank)
        output->length--;
    memset(output->codes + output->length, 0, BLOCK * sizeof *output->codes);
    return 1;
}

/* The characters in their forms, as fold_text says. */
static int take_forms_of(PyObject *object, Py_ssize_t most, const Forms *forms, int single_spaces, Output *output)
{
    Utf8 text = {0};
    int done = take_utf8(&text, object) ? -1
               : single_spaces          ? fold_text(output, &text, most, forms, 1)
                                        : fold_text(output, &text, most, forms, 0);
    give_back_utf8(&text);
    if (done <= 0) {
        PyMem_Free(output->codes);
        output->codes = NULL;
    }
    return done;
}

Py_UCS4 *take_folded(PyObject *text, const Forms *forms, Py_ssize_t *length)
{
    Output output = {0};
    take_forms_of(text, PY_SSIZE_T_MAX, forms, 1, &output);
    *length = output.length;
    return output.codes;
}

/* What Python itself makes of characters that change beside each other. */
static Py_UCS4 *normal_by_unicodedata(PyObject *object, Py_ssize_t most, Py_ssize_t *length)
{
    Py_UCS4 *codes = take_codes(object, most, length);
    PyObject *unicodedata = codes ? PyImport_ImportModule("unicodedata") : NULL;
    PyObject *text = unicodedata ? PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, codes, *length) : NULL;
    PyObject *normal = text ? PyObject_CallMethod(unicodedata, "normalize", "sO", "NFKC", text) : NULL;
    PyObject *lower = normal ? PyObject_CallMethod(normal, "lower", NULL) : NULL;
    Py_UCS4 *found = lower ? take_codes(lower, PY_SSIZE_T_MAX, length) : NULL;
    Py_XDECREF(lower);
    Py_XDECREF(normal);
    Py_XDECREF(text);
    Py_XDECREF(unicodedata);
    PyMem_Free(codes);
    return found;
}

/* White space as single blanks between the rest, in place; the new length. */
static Py_ssize_t with_single_spaces(Py_UCS4 *codes, Py_ssize_t length)
{
    Py_ssize_t written = 0;
    int pending = 0;
    for (Py_ssize_t at = 0; at < length; at++) {
        if (is_space(codes[at])) {
            pending = written > 0;
            continue;
        }
        if (pending)
            codes[written++] = ' ';
        pending = 0;
        codes[written++] = codes[at];
    }
    return written;
}

Py_UCS4 *take_normal(PyObject *text, Py_ssize_t most, const Forms *forms, int single_spaces, Py_ssize_t *length)
{
    Output output = {0};
    if (take_forms_of(text, most, forms, single_spaces, &output)) {
        *length = output.length;
        return output.codes;
    }
    Py_UCS4 *codes = normal_by_unicodedata(text, most, length);
    if (codes && single_spaces) {
        *length = with_single_spaces(codes, *length);
        memset(codes + *length, 0, BLOCK * sizeof *codes);
    }
    return codes;
}

PyObject *fold(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *text, *tables[2], *found = NULL;
    Py_ssize_t length;
    Forms forms = {0};
    if (!PyArg_ParseTuple(arguments, "O(OO)", &text, &tables[0], &tables[1]))
        return NULL;
    if (!take_forms(&forms, tables[0], tables[1])) {
        Py_UCS4 *codes = take_folded(text, &forms, &length);
        if (codes)
            found = PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, codes, length);
        else if (!PyErr_Occurred())
            found = Py_NewRef(Py_None);
        PyMem_Free(codes);
    }
    give_back_forms(&forms);
    return found;
}

PyObject *normalise(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *text, *tables[2], *found = NULL;
    Py_ssize_t length;
    Forms forms = {0};
    if (!PyArg_ParseTuple(arguments, "O(OO)", &text, &tables[0], &tables[1]))
        return NULL;
    if (!take_forms(&forms, tables[0], tables[1])) {
        Py_UCS4 *codes = take_normal(text, PY_SSIZE_T_MAX, &forms, 0, &length);
        found = codes ? PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, codes, length) : NULL;
        PyMem_Free(codes);
    }
    give_back_forms(&forms);
    return found;
}
