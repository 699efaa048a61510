/* A fastText model as it lies in its file (fasttext_file.c), from which it is asked (fasttext.c). */
#ifndef CRAWL2CHAT_FASTTEXT_H
#define CRAWL2CHAT_FASTTEXT_H

#include "text.h"

#define END_OF_LINE "</s>" /* the word that stands for it */
#define CENTROIDS 256      /* of each part of a quantised row */

enum { HIERARCHICAL_SOFTMAX = 1, NEGATIVE_SAMPLING, SOFTMAX, ONE_VS_ALL }; /* losses, by their numbers in the file */

/* float32, row by row, at any address; or quantised: a row is made of `parts` pieces of `width` columns, the last of `last_width`,
   each named by a code, and all times a norm. */
typedef struct {
    int64_t rows;
    const uint8_t *values; /* NULL: it is quantised */
    const uint8_t *codes, *centroids;
    const uint8_t *norms, *norm_centroids; /* NULL: the norms are 1 */
    int32_t parts, width, last_width;
} Matrix;

typedef struct {
    const uint8_t *name;
    int32_t length;
} Word;

typedef struct {
    int32_t left, right;
} Node;

/* The buckets that have a row in a pruned model, a small part of all: a hash table, and a filter that most others fail at, small
   enough to stay near the processor. Buckets are hashes already. */
typedef struct {
    uint32_t bucket, row; /* row: behind those of the words, plus one; 0: the slot is free */
} Kept;

typedef struct {
    Kept *slots;
    uint8_t *filter; /* a bit for each of eight times as many hashes as there are slots */
    size_t mask;
} Pruning;

static inline int may_be_kept(const Pruning *pruning, uint32_t bucket)
{
    return pruning->filter[(bucket >> 3) & pruning->mask] >> (bucket & 7) & 1;
}

/* The slot of a bucket, which is free where it is not kept. */
static inline Kept *kept_at(const Pruning *pruning, uint32_t bucket)
{
    size_t at = bucket & pruning->mask;
    while (pruning->slots[at].row && pruning->slots[at].bucket != bucket)
        at = (at + 1) & pruning->mask;
    return &pruning->slots[at];
}

typedef struct {
    Py_buffer file;
    int32_t columns, word_ngrams, loss, buckets, shortest, longest; /* shortest, longest: n-grams of characters */
    int32_t words, labels; /* labels stand behind the words */
    Word *names;
    uint32_t *places; /* hash table of the names: 1 + place, or 0 */
    size_t mask;
    Pruning *pruning; /* NULL: every bucket has a row */
    Node *tree; /* of the hierarchical softmax: behind the labels its inner nodes, each with its children */
    Matrix input, output;
} Model;

/* FNV-1a as fastText has it: a byte beyond 127 is negative, and widened as that. */
#define FNV_START UINT32_C(2166136261)
static inline uint32_t fnv(uint32_t hash, uint8_t byte)
{
    return (hash ^ (uint32_t)(int8_t)byte) * UINT32_C(16777619);
}

static inline uint32_t fnv_of(const uint8_t *word, size_t length)
{
    uint32_t hash = FNV_START;
    for (size_t i = 0; i < length; i++)
        hash = fnv(hash, word[i]);
    return hash;
}

/* Where a name of the hash `hash` is, or would be put, in `places`. */
static inline uint32_t *place_of(const Model *model, const uint8_t *name, size_t length, uint32_t hash)
{
    size_t at = hash & model->mask;
    for (; model->places[at]; at = (at + 1) & model->mask) {
        const Word *word = &model->names[model->places[at] - 1];
        if ((size_t)word->length == length && !memcmp(word->name, name, length))
            break;
    }
    return &model->places[at];
}

/* The model in an object that fasttext_open gave; NULL with an exception set. */
Model *model_of(PyObject *object);

#endif
