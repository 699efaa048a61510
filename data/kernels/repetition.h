/* Gopher's measures of repetition over the words of one text; data/corpus/repetition.py says what they are. */
#ifndef CRAWL2CHAT_REPETITION_H
#define CRAWL2CHAT_REPETITION_H

#include "text.h"

#define SMALLEST 2     /* n-grams of 2, 3 and 4 words: the characters of the commonest one's copies */
#define FIRST_PASSED 5 /* of 5 to 10: those of n-grams that stood before */
#define LARGEST 10

/* 64 places of a filter, by the hashes of n-grams: which of them were met, and which more than once. */
typedef struct {
    uint64_t once, again;
} Places;

typedef struct {
    Counter counter;
    Places *filter;
    size_t filter_allocated;
    Py_ssize_t allocated;
    int64_t *ends;   /* characters of all words up to each */
    uint32_t *at;    /* where the n-grams begin that may still repeat */
    uint64_t *grams; /* hashes of what stands there */
    uint32_t *slots; /* and of each its slot in the counter */
} Repetition;

/* found[size - SMALLEST] in characters, an n-gram of `scale` * n words; 0, or -1 with MemoryError set. */
int count_repetition(Repetition *memory, const Words *words, int scale, int64_t *found);
void end_repetition(Repetition *memory);

#endif
