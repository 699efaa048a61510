/* The module data.kernels._compiled, and what its functions share. */
#include "text.h"

int take_array(Array *array, PyObject *object, size_t size, Py_ssize_t least)
{
    if (PyObject_GetBuffer(object, &array->view, PyBUF_CONTIG_RO))
        return -1;
    if (array->view.itemsize != (Py_ssize_t)size && array->view.itemsize != 1) {
        PyErr_Format(PyExc_ValueError, "items of %zu bytes are wanted, not of %zd", size, array->view.itemsize);
        return -1;
    }
    size_t alignment = size < sizeof(uint64_t) ? size : sizeof(uint64_t);
    if ((uintptr_t)array->view.buf % alignment || array->view.len % (Py_ssize_t)size || array->view.len / (Py_ssize_t)size < least) {
        PyErr_Format(PyExc_ValueError, "%zd or more aligned items of %zu bytes are wanted, not %zd bytes", least, size, array->view.len);
        return -1;
    }
    array->items = array->view.buf;
    array->count = array->view.len / (Py_ssize_t)size;
    return 0;
}

void give_back(Array *array)
{
    if (array->view.obj)
        PyBuffer_Release(&array->view);
}

int take_classes(Array *array, Classes *classes, PyObject *object)
{
    if (take_array(array, object, 1, 1))
        return -1;
    classes->table = array->items;
    classes->last = (size_t)array->count - 1;
    return 0;
}

int append_new(PyObject *list, PyObject *item)
{
    int failed = !item || PyList_Append(list, item);
    Py_XDECREF(item);
    return failed ? -1 : 0;
}

int counter_reset(Counter *counter, size_t keys)
{
    size_t size = 16;
    while (size < 2 * keys)
        size *= 2;
    if (size > counter->allocated) {
        PyMem_Free(counter->slots);
        counter->slots = size > SIZE_MAX / sizeof(Slot) ? NULL : PyMem_Malloc(size * sizeof(Slot));
        counter->allocated = counter->slots ? size : 0;
        if (!counter->slots) {
            PyErr_NoMemory();
            return -1;
        }
    }
    memset(counter->slots, 0, size * sizeof(Slot));
    counter->mask = size - 1;
    return 0;
}

/* What each takes and gives is said in _compiled.pyi. */
static PyMethodDef functions[] = {
    {"normalise", normalise, METH_VARARGS, NULL},
    {"fold", fold, METH_VARARGS, NULL},
    {"scan_words", scan_words, METH_VARARGS, NULL},
    {"shingles", shingles, METH_VARARGS, NULL},
    {"quality_counts", quality_counts, METH_VARARGS, NULL},
    {"minhash", minhash, METH_VARARGS, NULL},
    {"symbols", symbols, METH_VARARGS, NULL},
    {"char_model_bits", char_model_bits, METH_VARARGS, NULL},
    {"build_terms", build_terms, METH_VARARGS, NULL},
    {"find_terms", find_terms, METH_VARARGS, NULL},
    {"find_folded_terms", find_folded_terms, METH_VARARGS, NULL},
    {"number_places", number_places, METH_VARARGS, NULL},
    {"cut_lines", cut_lines, METH_VARARGS, NULL},
    {"longest_texts", longest_texts, METH_VARARGS, NULL},
    {"fasttext_open", fasttext_open, METH_VARARGS, NULL},
    {"fasttext_labels", fasttext_labels, METH_VARARGS, NULL},
    {"fasttext_predict", fasttext_predict, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "data.kernels._compiled", .m_methods = functions};

PyMODINIT_FUNC PyInit__compiled(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyObject *names = module ? quality_names() : NULL;
    if (!names || PyModule_AddObjectRef(module, "QUALITY_COUNTS", names))
        Py_CLEAR(module);
    Py_XDECREF(names);
    return module;
}
