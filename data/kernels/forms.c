/* Every character of a text replaced by its form: normal form and lower case, or what terms are compared by. */
#include "text.h"

#define SINGLE UINT32_C(0x110000)   /* a smaller entry of the table is the one character that stands for another */
#define CONTEXT UINT32_C(0xFFFFFFFF) /* an entry whose form depends on what stands beside it */

/* The characters so far; there is always room for one for each that is still to be read, and a blank. */
typedef struct {
    Py_UCS4 *codes;
    Py_ssize_t length, allocated;
} Output;

static int reserve(Output *output, Py_ssize_t more)
{
    Py_ssize_t needed = output->length + more + 1;
    if (needed <= output->allocated)
        return 0;
    needed += needed / 2;
    Py_UCS4 *grown = needed > PY_SSIZE_T_MAX / 4 ? NULL : PyMem_Realloc(output->codes, (size_t)needed * sizeof(Py_UCS4));
    if (!grown) {
        PyErr_NoMemory();
        return -1;
    }
    output->codes = grown;
    output->allocated = needed;
    return 0;
}

typedef struct {
    const uint32_t *forms, *longer;
    Py_ssize_t known, longest; /* how many there are of these */
} Tables;

/* How many characters one becomes that is not one, and which; NULL with an exception set. */
static const uint32_t *longer_form(const Tables *tables, Py_UCS4 code, Py_ssize_t *count)
{
    Py_ssize_t place = (Py_ssize_t)(tables->forms[code] - SINGLE);
    if (place >= tables->longest || (Py_ssize_t)tables->longer[place] >= tables->longest - place) {
        PyErr_Format(PyExc_ValueError, "the form of U+%X lies outside the table", (unsigned)code);
        return NULL;
    }
    *count = (Py_ssize_t)tables->longer[place];
    return &tables->longer[place + 1];
}

/* 1 done, 0 some form depends on its neighbours, -1 with an exception set. Written out for each `kind` of str, and for texts with
   single blanks: every blank is written, and overwritten by what follows unless it is the first behind a word. */
static inline int fold_kind(Output *output, int kind, const void *data, Py_ssize_t length, const Tables *tables, int single_spaces)
{
    int after_blank = 1;
    Py_UCS4 *end = output->codes;
    for (Py_ssize_t at = 0; at < length; at++) {
        Py_UCS4 code = PyUnicode_READ(kind, data, at);
        if ((Py_ssize_t)code >= tables->known || tables->forms[code] == CONTEXT)
            return 0;
        const uint32_t *form = &tables->forms[code];
        Py_ssize_t count = 1;
        if (*form >= SINGLE) {
            output->length = end - output->codes;
            if (!(form = longer_form(tables, code, &count)) || reserve(output, count + length - at))
                return -1;
            end = output->codes + output->length;
        }
        for (; count > 0; count--, form++) {
            int blank = single_spaces && *form == ' ';
            *end = *form;
            end += !(blank & after_blank);
            after_blank = blank;
        }
    }
    output->length = end - output->codes;
    if (single_spaces && output->length && after_blank)
        output->length--;
    return 1;
}

static int fold_into(Output *output, PyObject *text, const Tables *tables, int single_spaces)
{
    const void *data = PyUnicode_DATA(text);
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    if (reserve(output, length + 1))
        return -1;
    switch (PyUnicode_KIND(text) * 2 + (single_spaces != 0)) {
    case PyUnicode_1BYTE_KIND * 2:
        return fold_kind(output, PyUnicode_1BYTE_KIND, data, length, tables, 0);
    case PyUnicode_1BYTE_KIND * 2 + 1:
        return fold_kind(output, PyUnicode_1BYTE_KIND, data, length, tables, 1);
    case PyUnicode_2BYTE_KIND * 2:
        return fold_kind(output, PyUnicode_2BYTE_KIND, data, length, tables, 0);
    case PyUnicode_2BYTE_KIND * 2 + 1:
        return fold_kind(output, PyUnicode_2BYTE_KIND, data, length, tables, 1);
    default:
        return fold_kind(output, PyUnicode_4BYTE_KIND, data, length, tables, single_spaces);
    }
}

PyObject *fold(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *text, *forms_object, *longer_object, *found = NULL;
    Output output = {0};
    int single_spaces;
    if (!PyArg_ParseTuple(arguments, "UOOp", &text, &forms_object, &longer_object, &single_spaces) || PyUnicode_READY(text))
        return NULL;
    Array forms = {0}, longer = {0};
    if (!take_array(&forms, forms_object, 4, 1) && !take_array(&longer, longer_object, 4, 0)) {
        Tables tables = {forms.items, longer.items, forms.count, longer.count};
        int done = fold_into(&output, text, &tables, single_spaces);
        if (done > 0)
            found = PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, output.codes, output.length);
        else if (!done)
            found = Py_NewRef(Py_None);
    }
    PyMem_Free(output.codes);
    give_back(&forms);
    give_back(&longer);
    return found;
}
