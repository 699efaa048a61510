/* Text between the tags of a page, found without parsing it. */
#include "text.h"

#define LEAST 24 /* bytes; shorter ones are names of menus; free_from has it too */

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

/* Of each of BLOCK bytes whether it is the end of a tag, and whether it is an end or a beginning, which one bit tells apart. */
typedef struct {
    uint64_t ends, signs;
} Tags;

static inline Tags tags_of(const uint8_t *block)
{
    uint8_t ends[BLOCK], signs[BLOCK];
    for (int at = 0; at < BLOCK; at++) {
        uint8_t either = block[at] & (uint8_t)~('<' ^ '>');
        ends[at] = block[at] == '>';
        signs[at] = either == '<';
    }
    return (Tags){bits_of(ends), bits_of(signs)};
}

/* Bits from which on LEAST and more are not set in `bits`. */
static inline uint64_t free_from(uint64_t bits)
{
    uint64_t two = ~bits & ~bits >> 1, four = two & two >> 2, eight = four & four >> 4;
    return eight & eight >> 8 & eight >> 16;
}

/* How far a page is looked through, and behind the last tag before that; -1: something else stood there. */
typedef struct {
    Py_ssize_t at, start;
} Scan;

static const uint8_t of_scripts[256] = {['{'] = 1, ['}'] = 1, ['='] = 1, [';'] = 1, ['\\'] = 1};

/* What stands between two tags, unless a script or a style does. */
static int add_between(Runs *found, const uint8_t *html, Py_ssize_t start, Py_ssize_t end)
{
    for (Py_ssize_t at = start; at < end; at++)
        if (of_scripts[html[at]])
            return 0;
    return add_run(found, start, end);
}

/* The runs that end in one block. Few blocks have one; what decides that is worked out without branches. */
static inline int find_in_block(Runs *found, const uint8_t *html, Scan *scan, Tags tags)
{
    if (!tags.signs)
        return 0;
    int first = lowest(tags.signs), last = highest(tags.signs), failed = 0;
    if ((scan->start >= 0) & (scan->at + first - scan->start >= LEAST) & !(tags.ends >> first & 1))
        failed = add_between(found, html, scan->start, scan->at + first);
    for (uint64_t starts = free_from(tags.signs) & tags.ends << 1; starts; starts &= starts - 1) {
        int start = lowest(starts);
        uint64_t behind = tags.signs >> start;
        if (behind && !(tags.ends >> start >> lowest(behind) & 1))
            failed |= add_between(found, html, scan->at + start, scan->at + start + lowest(behind));
    }
    scan->start = tags.ends >> last & 1 ? scan->at + last + 1 : -1;
    return failed;
}

/* Stretches of LEAST bytes or more between '>' and '<' without what stands in scripts and styles, up to `length`. */
static int find_runs(Runs *found, const uint8_t *html, Scan *scan, Py_ssize_t length)
{
    Scan here = *scan;
    int failed = 0;
    for (; !failed && length - here.at >= BLOCK; here.at += BLOCK)
        failed = find_in_block(found, html, &here, tags_of(html + here.at));
    if (!failed && here.at < length) {
        uint8_t rest[BLOCK] = {0};
        memcpy(rest, html + here.at, (size_t)(length - here.at));
        failed = find_in_block(found, html, &here, tags_of(rest));
    }
    here.at = length; /* a longer scan goes on here */
    *scan = here;
    return failed;
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
        Scan scan = {0, -1};
        int failed = find_runs(&found, html.items, &scan, html.count < scanned ? html.count : scanned);
        if (!failed && found.bytes < 4 * wanted)
            failed = find_runs(&found, html.items, &scan, html.count < more ? html.count : more);
        if (!failed)
            texts = choose(&found, html.items, wanted, piece);
    }
    PyMem_Free(found.runs);
    give_back(&html);
    return texts;
}
