/* Text between the tags of a page, found without parsing it. */
#include "text.h"

#define LEAST 24 /* bytes; shorter ones are names of menus */

typedef struct {
    Py_ssize_t start, end;
} Run;

typedef struct {
    Run *runs;
    Py_ssize_t count, allocated, bytes;
} Runs;

static int add_run(Runs *found, Py_ssize_t start, Py_ssize_t end)
{
    if (found->count == found->allocated) {
        Py_ssize_t wanted = found->allocated ? 2 * found->allocated : 64;
        Run *grown = PyMem_Realloc(found->runs, (size_t)wanted * sizeof(Run));
        if (!grown) {
            PyErr_NoMemory();
            return -1;
        }
        found->runs = grown;
        found->allocated = wanted;
    }
    found->runs[found->count++] = (Run){start, end};
    found->bytes += end - start;
    return 0;
}

/* Tags, and what scripts and styles are full of. */
static const uint8_t ends_run[256] = {['<'] = 1, ['>'] = 1, ['{'] = 1, ['}'] = 1, ['='] = 1, [';'] = 1, ['\\'] = 1};

/* Stretches of LEAST bytes or more between '>' and '<' without what stands in scripts and styles, from `*from` on; goes on where it ended. */
static int find_runs(Runs *found, const char *html, Py_ssize_t *from, Py_ssize_t length)
{
    Py_ssize_t at = *from;
    const char *next;
    while (at < length && (next = memchr(html + at, '>', (size_t)(length - at)))) {
        Py_ssize_t start = *from = next - html + 1;
        for (at = start; at < length && !ends_run[(unsigned char)html[at]];)
            at++;
        if (at == length)
            *from = start - 1; /* unfinished */
        else if (html[at] == '<' && at - start >= LEAST && add_run(found, start, at))
            return -1;
    }
    return 0;
}

/* The longest runs by their places, of equal ones the first, until they have more than `wanted` bytes, `piece` of each at most. */
static PyObject *choose(const Runs *found, const char *html, Py_ssize_t wanted, Py_ssize_t piece)
{
    uint8_t *chosen = PyMem_Calloc((size_t)found->count + 1, 1);
    PyObject *texts = PyList_New(0);
    if (!chosen)
        PyErr_NoMemory();
    for (Py_ssize_t size = 0; chosen && texts && size <= wanted;) {
        Py_ssize_t best = -1, longest = 0;
        for (Py_ssize_t i = 0; i < found->count; i++)
            if (!chosen[i] && found->runs[i].end - found->runs[i].start > longest) {
                best = i;
                longest = found->runs[i].end - found->runs[i].start;
            }
        if (best < 0)
            break;
        chosen[best] = 1;
        size += longest < piece ? longest : piece;
    }
    for (Py_ssize_t i = 0; chosen && texts && i < found->count; i++) {
        if (!chosen[i])
            continue;
        Py_ssize_t length = found->runs[i].end - found->runs[i].start;
        if (append_new(texts, PyBytes_FromStringAndSize(html + found->runs[i].start, length < piece ? length : piece)))
            Py_CLEAR(texts);
    }
    if (!chosen)
        Py_CLEAR(texts);
    PyMem_Free(chosen);
    return texts;
}

PyObject *longest_texts(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *object, *texts = NULL;
    Py_ssize_t scanned, more, wanted, piece;
    if (!PyArg_ParseTuple(arguments, "Onnnn", &object, &scanned, &more, &wanted, &piece))
        return NULL;
    if (scanned < 0 || more < 0 || wanted < 0 || piece < 1)
        return PyErr_Format(PyExc_ValueError, "numbers of bytes are not negative");
    Array html = {0};
    Runs found = {0};
    if (!take_array(&html, object, 1, 0)) {
        Py_ssize_t from = 0;
        int failed = find_runs(&found, html.items, &from, html.count < scanned ? html.count : scanned);
        if (!failed && found.bytes < 4 * wanted)
            failed = find_runs(&found, html.items, &from, html.count < more ? html.count : more);
        if (!failed)
            texts = choose(&found, html.items, wanted, piece);
    }
    PyMem_Free(found.runs);
    give_back(&html);
    return texts;
}
