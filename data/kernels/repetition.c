/* N-grams that stand in a text more than once, of all sizes in one go: only where one repeats can a longer one. */
#include "repetition.h"

#define FILTER 8 /* places for each n-gram, at least */

static int make_room(Repetition *memory, Py_ssize_t words)
{
    if (words <= memory->allocated && memory->ends)
        return 0;
    end_repetition(memory);
    size_t count = (size_t)words + 1;
    memory->ends = PyMem_Malloc(count * sizeof *memory->ends);
    memory->at = PyMem_Malloc(count * sizeof *memory->at);
    memory->grams = PyMem_Malloc(count * sizeof *memory->grams);
    memory->slots = PyMem_Malloc(count * sizeof *memory->slots);
    if (!memory->ends || !memory->at || !memory->grams || !memory->slots) {
        PyErr_NoMemory();
        return -1;
    }
    memory->allocated = words;
    return 0;
}

void end_repetition(Repetition *memory)
{
    PyMem_Free(memory->counter.slots);
    PyMem_Free(memory->filter);
    PyMem_Free(memory->ends);
    PyMem_Free(memory->at);
    PyMem_Free(memory->grams);
    PyMem_Free(memory->slots);
    *memory = (Repetition){0};
}

/* Characters of the n-gram of `wanted` words with most copies, in all of these; of several the longest. */
static int64_t of_commonest(const Repetition *memory, Py_ssize_t left, Py_ssize_t wanted)
{
    int64_t most = 1, longest = 0;
    for (Py_ssize_t i = 0; i < left; i++) {
        int64_t copies = memory->counter.slots[memory->slots[i]].count;
        int64_t characters = copies * (memory->ends[memory->at[i] + wanted] - memory->ends[memory->at[i]]);
        if (copies > most || (copies == most && copies > 1 && characters > longest)) {
            most = copies;
            longest = characters;
        }
    }
    return longest;
}

/* Characters of n-grams that repeat an earlier one, left to right, none counted within another. */
static int64_t pass_over(const Repetition *memory, Py_ssize_t left, Py_ssize_t wanted)
{
    int64_t characters = 0, free_from = 0;
    for (Py_ssize_t i = 0; i < left; i++) {
        int64_t at = memory->at[i];
        Slot *slot = &memory->counter.slots[memory->slots[i]];
        if (at < free_from)
            continue;
        if (slot->note) {
            characters += memory->ends[at + wanted] - memory->ends[at];
            free_from = at + wanted;
        }
        slot->note = 1; /* seen */
    }
    return characters;
}

/* Puts the n-grams into the filter, which has 2^bits places then; 0, or -1 with MemoryError set. */
static int fill_filter(Repetition *memory, Py_ssize_t count, int *bits)
{
    for (*bits = 6; (size_t)1 << *bits < FILTER * (size_t)count;)
        ++*bits;
    size_t size = (size_t)1 << (*bits - 6);
    if (size > memory->filter_allocated) {
        PyMem_Free(memory->filter);
        memory->filter = PyMem_Malloc(size * sizeof *memory->filter);
        memory->filter_allocated = memory->filter ? size : 0;
        if (!memory->filter) {
            PyErr_NoMemory();
            return -1;
        }
    }
    memset(memory->filter, 0, size * sizeof *memory->filter);
    for (Py_ssize_t i = 0; i < count; i++) {
        uint64_t place = memory->grams[i] >> (64 - *bits), bit = UINT64_C(1) << (place & 63);
        Places *places = &memory->filter[place >> 6];
        places->again |= places->once & bit;
        places->once |= bit;
    }
    return 0;
}

/* Of `count` n-grams those that may stand twice, the rest being alone at their place of the filter; how many. There is no branch where
   there is no telling which. */
static Py_ssize_t keep_met_again(Repetition *memory, Py_ssize_t count, int bits)
{
    Py_ssize_t left = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        uint64_t gram = memory->grams[i], place = gram >> (64 - bits);
        memory->at[left] = memory->at[i];
        memory->grams[left] = gram;
        left += memory->filter[place >> 6].again >> (place & 63) & 1;
    }
    return left;
}

/* Of `count` n-grams those that stand twice, and each one's slot in the counter; how many, or -1 with MemoryError set. */
static Py_ssize_t keep_repeated(Repetition *memory, Py_ssize_t count)
{
    Py_ssize_t left = 0;
    if (counter_reset(&memory->counter, (size_t)count))
        return -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        uint64_t key = mix(memory->grams[i]);
        Slot *slot = counter_find(&memory->counter, key);
        slot->key = key;
        slot->count++;
        memory->slots[i] = (uint32_t)(slot - memory->counter.slots);
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        uint32_t slot = memory->slots[i];
        memory->at[left] = memory->at[i];
        memory->grams[left] = memory->grams[i];
        memory->slots[left] = slot;
        left += memory->counter.slots[slot].count > 1;
    }
    return left;
}

int count_repetition(Repetition *memory, const Words *words, int scale, int64_t *found)
{
    if (make_room(memory, words->count))
        return -1;
    memory->ends[0] = 0;
    for (Py_ssize_t i = 0; i < words->count; i++) {
        memory->ends[i + 1] = memory->ends[i] + words->ends[i] - words->starts[i];
        memory->at[i] = (uint32_t)i;
        memory->grams[i] = words->hashes[i];
    }
    Py_ssize_t left = words->count, width = 1;
    for (int size = SMALLEST; size <= LARGEST; size++) {
        Py_ssize_t wanted = (Py_ssize_t)scale * size, inside = 0;
        for (Py_ssize_t i = 0; i < left && (Py_ssize_t)memory->at[i] + wanted <= words->count; i++) { /* places rise */
            uint64_t gram = memory->grams[i];
            for (Py_ssize_t next = width; next < wanted; next++)
                gram = gram * MULTIPLIER + words->hashes[memory->at[i] + next];
            memory->grams[inside++] = gram;
        }
        int bits;
        if (fill_filter(memory, inside, &bits) || (left = keep_repeated(memory, keep_met_again(memory, inside, bits))) < 0)
            return -1;
        width = wanted;
        found[size - SMALLEST] = size < FIRST_PASSED ? of_commonest(memory, left, wanted) : pass_over(memory, left, wanted);
    }
    return 0;
}
