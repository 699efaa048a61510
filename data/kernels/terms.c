/* Many terms found in one pass over a text: a trie, entered only where two characters begin a term. */
#include "text.h"

#define FIRSTS 0x10000
#define PAIR 1   /* of a hash of two characters: some term begins with them */
#define SINGLE 2 /* of a character: it is a term */

/* A step of the trie, in a hash table: from a node over a character (`key`) to the node `count`, where the term `note` - 1 ends. */
static inline uint64_t step_of(uint32_t node, Py_UCS4 code)
{
    return mix(((uint64_t)node << 21 | code) + 1); /* one for one, so that different steps stay different */
}

static inline size_t pair_of(Py_UCS4 first, Py_UCS4 second)
{
    return (first * 31 + second) & (FIRSTS - 1);
}

/* A letter of a script that has spaces between words. */
static inline int is_spaced(Py_UCS4 code)
{
    if (code < 128)
        return (code | 32) - 'a' <= 'z' - 'a';
    return (code < 0x2E80 || code > 0x9FFF) && Py_UNICODE_ISALPHA(code);
}

static int add_term(Counter *steps, uint8_t *firsts, uint32_t *nodes, PyObject *term, Py_ssize_t number)
{
    if (!PyUnicode_Check(term) || !PyUnicode_GET_LENGTH(term)) {
        PyErr_SetString(PyExc_ValueError, "terms are str, and not empty");
        return -1;
    }
    Py_ssize_t length = PyUnicode_GET_LENGTH(term);
    Py_UCS4 first = PyUnicode_READ_CHAR(term, 0);
    if (length > 1)
        firsts[pair_of(first, PyUnicode_READ_CHAR(term, 1))] |= PAIR;
    else
        firsts[first & (FIRSTS - 1)] |= SINGLE;
    Slot *slot = NULL;
    uint32_t node = 0;
    for (Py_ssize_t at = 0; at < length; at++) {
        uint64_t key = step_of(node, PyUnicode_READ_CHAR(term, at));
        slot = counter_find(steps, key);
        if (!slot->count)
            *slot = (Slot){key, ++*nodes, 0};
        node = slot->count;
    }
    slot->note = (uint32_t)number + 1;
    return 0;
}

PyObject *build_terms(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *given, *terms, *found = NULL;
    if (!PyArg_ParseTuple(arguments, "O", &given) || !(terms = PySequence_Fast(given, "terms are a sequence")))
        return NULL;
    Counter steps = {0};
    uint8_t *firsts = PyMem_Calloc(FIRSTS, 1);
    Py_ssize_t count = PySequence_Fast_GET_SIZE(terms);
    size_t characters = 0;
    uint32_t nodes = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *term = PySequence_Fast_GET_ITEM(terms, i);
        characters += PyUnicode_Check(term) ? (size_t)PyUnicode_GET_LENGTH(term) : 0;
    }
    if (!firsts) {
        PyErr_NoMemory();
        goto end;
    }
    if (characters > UINT32_MAX / 2) {
        PyErr_Format(PyExc_ValueError, "a list of terms has %zu characters; more than two thousand million are too many", characters);
        goto end;
    }
    if (counter_reset(&steps, characters))
        goto end;
    for (Py_ssize_t i = 0; i < count; i++)
        if (add_term(&steps, firsts, &nodes, PySequence_Fast_GET_ITEM(terms, i), i))
            goto end;
    found = Py_BuildValue("y#y#", firsts, (Py_ssize_t)FIRSTS, steps.slots, (Py_ssize_t)((steps.mask + 1) * sizeof(Slot)));
end:
    PyMem_Free(firsts);
    PyMem_Free(steps.slots);
    Py_DECREF(terms);
    return found;
}

/* Appends (start, end, number) of the terms that begin at `start`; `whole`: those that end with their word. Without `found` the answer is 1
   where there is one; -1 with an exception set. */
static int find_at(const Counter *steps, const Py_UCS4 *codes, Py_ssize_t length, Py_ssize_t start, int whole, PyObject *found)
{
    uint32_t node = 0;
    for (Py_ssize_t at = start; at < length; at++) {
        const Slot *slot = counter_find(steps, step_of(node, codes[at]));
        if (!slot->count)
            break;
        node = slot->count;
        if (!slot->note || (whole && at + 1 < length && is_spaced(codes[at]) && is_spaced(codes[at + 1])))
            continue;
        if (!found)
            return 1;
        if (append_new(found, Py_BuildValue("nnI", start, at + 1, (unsigned)slot->note - 1)))
            return -1;
    }
    return 0;
}

static inline int may_begin(const uint8_t *firsts, Py_UCS4 code, Py_UCS4 next)
{
    return (firsts[pair_of(code, next)] & PAIR) | (firsts[code & (FIRSTS - 1)] & SINGLE);
}

int take_terms(Array *firsts, PyObject *firsts_object, Array *steps, PyObject *steps_object, Terms *terms)
{
    if (take_array(firsts, firsts_object, 1, FIRSTS) || take_array(steps, steps_object, sizeof(Slot), 1))
        return -1;
    if (steps->count & (steps->count - 1)) {
        PyErr_SetString(PyExc_ValueError, "these are no steps of build_terms");
        return -1;
    }
    *terms = (Terms){firsts->items, {(Slot *)steps->items, (size_t)steps->count - 1, 0}};
    return 0;
}

/* The first place from `at` on where a term may begin; `length` where there is none. Behind the last character stands a zero. */
static Py_ssize_t next_start(const uint8_t *firsts, const Py_UCS4 *codes, Py_ssize_t length, Py_ssize_t at)
{
    while (at < length && !may_begin(firsts, codes[at], codes[at + 1]))
        at++;
    return at;
}

int begins_with_term(const Terms *terms, const Py_UCS4 *codes, Py_ssize_t length)
{
    return may_begin(terms->firsts, codes[0], codes[1]) && find_at(&terms->trie, codes, length, 0, 0, NULL);
}

int contains_term(const Terms *terms, const Py_UCS4 *codes, Py_ssize_t length)
{
    for (Py_ssize_t at = 0; (at = next_start(terms->firsts, codes, length, at)) < length; at++)
        if (find_at(&terms->trie, codes, length, at, 0, NULL))
            return 1;
    return 0;
}

static inline uint64_t blanks_of(const Py_UCS4 *codes)
{
    uint8_t are_blanks[BLOCK];
    for (int i = 0; i < BLOCK; i++)
        are_blanks[i] = codes[i] == ' ';
    return bits_of(are_blanks);
}

/* A bit for each of BLOCK characters that an ASCII letter stands before and that is one itself; `letter`: of the character before them, and then of
   their last. */
static inline uint64_t within_words(const Py_UCS4 *codes, uint64_t *letter)
{
    uint8_t are_letters[BLOCK];
    for (int i = 0; i < BLOCK; i++)
        are_letters[i] = (codes[i] | 32) - 'a' <= 'z' - 'a';
    uint64_t letters = bits_of(are_letters), before = letters << 1 | *letter;
    *letter = letters >> (BLOCK - 1);
    return letters & before;
}

/* All terms in `codes`, behind which stands a block of zeros; NULL with an exception set. */
static PyObject *find_all(const Terms *terms, const Py_UCS4 *codes, Py_ssize_t length, int whole)
{
    PyObject *found = PyList_New(0);
    uint64_t letter = 0;
    int begins_blank = counter_find(&terms->trie, step_of(0, ' '))->count != 0; /* most lists have no such term */
    for (Py_ssize_t block = 0; found && block < length; block += BLOCK) {
        uint64_t starts = begins_blank ? ~UINT64_C(0) : ~blanks_of(codes + block);
        if (whole)
            starts &= ~within_words(codes + block, &letter);
        starts &= length - block < BLOCK ? (UINT64_C(1) << (length - block)) - 1 : ~UINT64_C(0);
        for (; found && starts; starts &= starts - 1) {
            Py_ssize_t at = block + lowest(starts);
            if (!may_begin(terms->firsts, codes[at], codes[at + 1]) || (whole && at && is_spaced(codes[at]) && is_spaced(codes[at - 1])))
                continue;
            if (find_at(&terms->trie, codes, length, at, whole, found))
                Py_CLEAR(found);
        }
    }
    return found;
}

PyObject *find_terms(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *text, *objects[2], *found = NULL;
    int whole;
    if (!PyArg_ParseTuple(arguments, "OOOp", &text, &objects[0], &objects[1], &whole))
        return NULL;
    Array firsts = {0}, slots = {0};
    Terms terms;
    if (!take_terms(&firsts, objects[0], &slots, objects[1], &terms)) {
        Py_ssize_t length;
        Py_UCS4 *codes = take_codes(text, PY_SSIZE_T_MAX, &length);
        found = codes ? find_all(&terms, codes, length, whole) : NULL;
        PyMem_Free(codes);
    }
    give_back(&firsts);
    give_back(&slots);
    return found;
}

PyObject *find_folded_terms(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *text, *tables[2], *objects[2], *found = NULL;
    if (!PyArg_ParseTuple(arguments, "O(OO)OO", &text, &tables[0], &tables[1], &objects[0], &objects[1]))
        return NULL;
    Array firsts = {0}, slots = {0};
    Forms forms = {0};
    Terms terms;
    if (!take_forms(&forms, tables[0], tables[1]) && !take_terms(&firsts, objects[0], &slots, objects[1], &terms)) {
        Py_ssize_t length;
        Py_UCS4 *codes = take_folded(text, &forms, &length);
        if (codes)
            found = find_all(&terms, codes, length, 1);
        else if (!PyErr_Occurred())
            found = Py_NewRef(Py_None);
        PyMem_Free(codes);
    }
    give_back_forms(&forms);
    give_back(&firsts);
    give_back(&slots);
    return found;
}
