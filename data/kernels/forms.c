/* Every character of a text replaced by its form: normal form and lower case, or what terms are compared by. */
#include "text.h"

#define SINGLE UINT32_C(0x110000)   /* a smaller entry of the table is the one character that stands for another */
#define CONTEXT UINT32_C(0xFFFFFFFF) /* an entry whose form depends on what stands beside it */

typedef struct {
    Py_UCS4 *codes;
    Py_ssize_t length, allocated;
    int single_spaces, pending; /* pending: white space was read that is not written yet */
} Output;

static int reserve(Output *output, Py_ssize_t more)
{
    Py_ssize_t needed = output->length + more + 1; /* one for a blank that is pending */
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

static inline void put(Output *output, Py_UCS4 code)
{
    if (output->single_spaces) {
        if (is_space(code)) {
            output->pending = output->length > 0;
            return;
        }
        if (output->pending)
            output->codes[output->length++] = ' ';
        output->pending = 0;
    }
    output->codes[output->length++] = code;
}

/* 1 done, 0 some form depends on its neighbours, -1 with an exception set. */
static int fold_into(Output *output, PyObject *text, const uint32_t *forms, Py_ssize_t known, const uint32_t *longer, Py_ssize_t longest)
{
    int kind = PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    for (Py_ssize_t at = 0; at < length; at++) {
        Py_UCS4 code = PyUnicode_READ(kind, data, at);
        if ((Py_ssize_t)code >= known)
            return 0;
        uint32_t form = forms[code];
        if (form < SINGLE) {
            if (output->length + 2 > output->allocated && reserve(output, 1))
                return -1;
            put(output, form);
            continue;
        }
        if (form == CONTEXT)
            return 0;
        Py_ssize_t place = (Py_ssize_t)(form - SINGLE);
        if (place >= longest || (Py_ssize_t)longer[place] >= longest - place) {
            PyErr_Format(PyExc_ValueError, "the form of U+%X lies outside the table", (unsigned)code);
            return -1;
        }
        Py_ssize_t count = (Py_ssize_t)longer[place];
        if (reserve(output, count + 1))
            return -1;
        for (Py_ssize_t i = 1; i <= count; i++)
            put(output, longer[place + i]);
    }
    return 1;
}

PyObject *fold(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *text, *forms_object, *longer_object, *found = NULL;
    Output output = {0};
    if (!PyArg_ParseTuple(arguments, "UOOp", &text, &forms_object, &longer_object, &output.single_spaces) || PyUnicode_READY(text))
        return NULL;
    Array forms = {0}, longer = {0};
    if (!take_array(&forms, forms_object, 4, 1, 0) && !take_array(&longer, longer_object, 4, 0, 0) && !reserve(&output, PyUnicode_GET_LENGTH(text) + 16)) {
        int done = fold_into(&output, text, forms.items, forms.count, longer.items, longer.count);
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
