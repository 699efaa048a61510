/* Everything of a text that is counted for the measures of quality; what is made of the counts is data/corpus/quality.py's. */
#include "quality.h"
#include "repetition.h"

#include <stddef.h>

#define DISTINCT_WORDS 1000 /* the share of distinct words falls with length, so the length is bounded */
#define SPARSE 8            /* slots of stop words for each, so that what is none finds a free one at once */
#define ENGLISH 0xFF        /* bits of the stop words of spaced text; those above are Chinese */

#define NAME(name) #name,
static const char *const names[] = {COUNTS(NAME)};
#define COUNT_OF_NAMES (sizeof names / sizeof *names)

/* What is the same for all texts. */
typedef struct {
    const uint16_t *traits;
    Counter stop_words; /* note: the number of the word */
} Tables;

/* Of the first words how many differ, and how many different stop words there are. */
static int count_kinds(const Words *words, const Counter *stop_words, Counter *counter, Counts *counts)
{
    Py_ssize_t first = words->count < DISTINCT_WORDS ? words->count : DISTINCT_WORDS;
    if (counter_reset(counter, (size_t)first))
        return -1;
    for (Py_ssize_t i = 0; i < first; i++) {
        Slot *slot = counter_find(counter, words->hashes[i]);
        counts->distinct_words += !slot->count;
        slot->key = words->hashes[i];
        slot->count = 1;
    }
    uint64_t found = 0;
    for (Py_ssize_t i = 0; i < words->count; i++) {
        const Slot *slot = counter_find(stop_words, words->hashes[i]);
        found |= (uint64_t)slot->count << slot->note; /* no branch: every fifth word is one */
    }
    found &= words->singles * 2 > words->count ? ~(uint64_t)ENGLISH : ENGLISH;
    for (; found; found &= found - 1)
        counts->stop_words++;
    return 0;
}

/* Memory that is used again from text to text. */
typedef struct {
    Words words;
    uint16_t *traits;
    Py_ssize_t allocated;
    Counter kinds, paragraphs;
    Repetition repetition;
} Memory;

static int make_room(Memory *memory, Py_ssize_t length)
{
    if (memory->traits && length <= memory->allocated)
        return 0;
    end_words(&memory->words);
    PyMem_Free(memory->traits);
    memory->traits = PyMem_Malloc(((size_t)length + BLOCK) * sizeof *memory->traits);
    if (!memory->traits) {
        PyErr_NoMemory();
        return -1;
    }
    memory->allocated = length;
    return new_words(&memory->words, length);
}

static int count_text(const Text *text, const Tables *tables, Memory *memory, Counts *counts)
{
    Words *words = &memory->words;
    words->count = words->singles = 0;
    find_words_by_traits(words, text->codes, text->length, text->traits);
    int unspaced = words->singles * 2 > words->count;
    int64_t ngrams[LARGEST - SMALLEST + 1];
    counts->words = words->count;
    counts->unspaced_words = words->singles;
    count_characters(text, counts);
    if (count_kinds(words, &tables->stop_words, &memory->kinds, counts) ||
        count_lines(text, unspaced, &memory->kinds, &memory->paragraphs, counts) ||
        count_repetition(&memory->repetition, words, unspaced ? 2 : 1, ngrams))
        return -1;
    memcpy((char *)counts + offsetof(Counts, top_2gram_characters), ngrams, sizeof ngrams); /* the last of the counts */
    counts->word_characters = memory->repetition.ends[words->count];
    return 0;
}

/* The counts of one text, of its first `most` characters. */
static int count_object(PyObject *object, Py_ssize_t most, const Tables *tables, Memory *memory, Counts *counts)
{
    Py_ssize_t length;
    Py_UCS4 *codes = take_codes(object, most, &length);
    if (!codes)
        return -1;
    int failed = make_room(memory, length);
    if (!failed) {
        codes[length] = '\n';
        for (Py_ssize_t at = 0; at < length + BLOCK; at++)
            memory->traits[at] = tables->traits[codes[at] < TRAITS ? codes[at] : TRAITS - 1];
        Text text = {codes, memory->traits, length};
        failed = count_text(&text, tables, memory, counts);
        counts->characters = length < most ? length : count_codes(object);
    }
    PyMem_Free(codes);
    return failed;
}

static int take_stop_words(Counter *counter, const Array *hashes, const Array *numbers)
{
    const uint64_t *hash = hashes->items;
    const uint8_t *number = numbers->items;
    if (counter_reset(counter, SPARSE / 2 * (size_t)hashes->count)) /* it has two for each of the keys asked for */
        return -1;
    for (Py_ssize_t i = 0; i < hashes->count; i++) {
        Slot *slot = counter_find(counter, hash[i]);
        *slot = (Slot){hash[i], 1, number[i] & 63};
    }
    return 0;
}

PyObject *quality_counts(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *given, *objects[3], *texts = NULL, *found = NULL;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(arguments, "OnOOO", &given, &most, &objects[0], &objects[1], &objects[2]))
        return NULL;
    Array arrays[3];
    memset(arrays, 0, sizeof arrays);
    Tables tables = {0};
    Memory memory = {0};
    if (most < 0 || most > UINT32_MAX / 2) { /* places are kept in 32 bits */
        PyErr_Format(PyExc_ValueError, "texts are measured up to %zd characters, not to %zd", (Py_ssize_t)(UINT32_MAX / 2), most);
        goto end;
    }
    if (take_array(&arrays[0], objects[0], 2, TRAITS) || take_array(&arrays[1], objects[1], 8, 0) ||
        take_array(&arrays[2], objects[2], 1, arrays[1].count) || take_stop_words(&tables.stop_words, &arrays[1], &arrays[2]) ||
        !(texts = PySequence_Fast(given, "texts are a sequence")))
        goto end;
    tables.traits = arrays[0].items;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(texts);
    if (count > PY_SSIZE_T_MAX / (Py_ssize_t)sizeof(Counts)) {
        PyErr_NoMemory();
        goto end;
    }
    found = PyBytes_FromStringAndSize(NULL, count * (Py_ssize_t)sizeof(Counts));
    for (Py_ssize_t i = 0; found && i < count; i++) {
        Counts counts = {0};
        if (count_object(PySequence_Fast_GET_ITEM(texts, i), most, &tables, &memory, &counts))
            Py_CLEAR(found);
        else
            memcpy(PyBytes_AS_STRING(found) + i * (Py_ssize_t)sizeof counts, &counts, sizeof counts);
    }
end:
    Py_XDECREF(texts);
    PyMem_Free(tables.stop_words.slots);
    PyMem_Free(memory.kinds.slots);
    PyMem_Free(memory.paragraphs.slots);
    PyMem_Free(memory.traits);
    end_words(&memory.words);
    end_repetition(&memory.repetition);
    for (int i = 0; i < 3; i++)
        give_back(&arrays[i]);
    return found;
}

PyObject *quality_names(void)
{
    PyObject *found = PyTuple_New(COUNT_OF_NAMES);
    for (size_t i = 0; found && i < COUNT_OF_NAMES; i++) {
        PyObject *name = PyUnicode_FromString(names[i]);
        if (!name) {
            Py_CLEAR(found);
            break;
        }
        PyTuple_SET_ITEM(found, (Py_ssize_t)i, name);
    }
    return found;
}
