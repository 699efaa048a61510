/* What all kernels share: buffers from Python, classes of characters, hashes of sequences (those of data/text.py). */
#ifndef CRAWL2CHAT_TEXT_H
#define CRAWL2CHAT_TEXT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { SPACE, LETTER, UNSPACED, OTHER }; /* data.text.character_classes */

#define MULTIPLIER UINT64_C(0x9E3779B97F4A7C15)
#define FIRST_WIDE_SPACE 0x1680 /* beyond U+00A0 there is no white space before it */
#define LAST_SPACE 0x3000       /* nor beyond this */

/* splitmix64's finaliser, as data.text.mix. */
static inline uint64_t mix(uint64_t value)
{
    value ^= value >> 30;
    value *= UINT64_C(0xBF58476D1CE4E5B9);
    value ^= value >> 27;
    value *= UINT64_C(0x94D049BB133111EB);
    return value ^ (value >> 31);
}

/* What str.isspace says. */
static inline int is_space(Py_UCS4 code)
{
    if (code - 0x80 < FIRST_WIDE_SPACE - 0x80) /* letters of half the scripts: no function is called for them */
        return code == 0x85 || code == 0xA0;
    return code <= LAST_SPACE && Py_UNICODE_ISSPACE(code);
}

/* What str.isdecimal says. */
static inline int is_decimal(Py_UCS4 code)
{
    return code < 128 ? code - '0' <= 9 : Py_UNICODE_ISDECIMAL(code);
}

/* Class of each code point, uint8; what lies beyond the table is read from its last entry. */
typedef struct {
    const uint8_t *table;
    size_t last;
} Classes;

static inline uint8_t class_of(Classes classes, Py_UCS4 code)
{
    return classes.table[code < classes.last ? code : classes.last];
}

/* An array that Python owns: `count` items of `items`. Zeroed before it is taken, it may be given back in any state. */
typedef struct {
    Py_buffer view;
    const void *items;
    Py_ssize_t count;
} Array;

/* 0, or -1 with TypeError or ValueError set: `object` is no contiguous buffer of items of `size` bytes, or has fewer than `least`. */
int take_array(Array *array, PyObject *object, size_t size, Py_ssize_t least);
void give_back(Array *array);

/* 0 and the table, or -1 with an exception set. */
int take_classes(Array *array, Classes *classes, PyObject *object);

/* A set of 64-bit keys with a count and a note each, in an open hash table. */
typedef struct {
    uint64_t key;
    uint32_t count; /* 0: the slot is free */
    uint32_t note;
} Slot;

typedef struct {
    Slot *slots;
    size_t mask;
    size_t allocated;
} Counter;

/* Empty, with room for `keys`; 0, or -1 with MemoryError set. It may be used again and ends with PyMem_Free(slots). */
int counter_reset(Counter *counter, size_t keys);

/* The slot of `key`, which is free where the key is new. */
static inline Slot *counter_find(const Counter *counter, uint64_t key)
{
    size_t at = (size_t)(key ^ (key >> 32)) & counter->mask;
    while (counter->slots[at].count && counter->slots[at].key != key)
        at = (at + 1) & counter->mask;
    return &counter->slots[at];
}

/* Words of a text in order; every array has room for one word a character. */
typedef struct {
    int64_t *starts, *ends; /* may be NULL where only hashes are asked for */
    uint64_t *hashes;
    uint8_t *unspaced;
    Py_ssize_t count, singles; /* singles: words that are one unspaced character */
} Words;

/* Room for the words of `length` characters; 0, or -1 with MemoryError set. It ends with end_words. */
int new_words(Words *words, Py_ssize_t length);
void end_words(Words *words);
void find_words(Words *words, const Py_UCS4 *codes, Py_ssize_t length, Classes classes);

/* Hash of a stretch of characters: mix of the sum of (code + 1) * MULTIPLIER^place, as that of a word. */
uint64_t hash_codes(const Py_UCS4 *codes, Py_ssize_t length);

/* Appends `item`, which may be NULL with an exception set, and gives it up; 0, or -1 with an exception set. */
int append_new(PyObject *list, PyObject *item);

/* Code points of a str and, behind the last, a zero; NULL with an exception set. Ends with PyMem_Free. */
Py_UCS4 *take_codes(PyObject *text, Py_ssize_t *length);

/* What build_terms made: by which characters terms begin, and the steps of their trie. */
typedef struct {
    const uint8_t *firsts;
    Counter trie; /* it is only read */
} Terms;

/* The two arrays of build_terms, and what they hold; 0, or -1 with an exception set. */
int take_terms(Array *firsts, PyObject *firsts_object, Array *steps, PyObject *steps_object, Terms *terms);

/* Whether a term stands in `codes`, behind which one more can be read. */
int contains_term(const Terms *terms, const Py_UCS4 *codes, Py_ssize_t length);

/* Whether `codes`, behind which one more can be read, begin with a term. */
int begins_with_term(const Terms *terms, const Py_UCS4 *codes, Py_ssize_t length);

/* The functions of the module, by file. */
PyObject *fold(PyObject *module, PyObject *arguments);           /* forms.c */
PyObject *scan_words(PyObject *module, PyObject *arguments);     /* words.c */
PyObject *shingles(PyObject *module, PyObject *arguments);       /* words.c */
PyObject *quality_counts(PyObject *module, PyObject *arguments); /* quality.c */
PyObject *quality_names(void);                                   /* the names of its counts */
PyObject *minhash(PyObject *module, PyObject *arguments);        /* minhash.c */
PyObject *symbols(PyObject *module, PyObject *arguments);         /* char_model.c */
PyObject *char_model_bits(PyObject *module, PyObject *arguments); /* char_model.c */
PyObject *build_terms(PyObject *module, PyObject *arguments);     /* terms.c */
PyObject *find_terms(PyObject *module, PyObject *arguments);      /* terms.c */
PyObject *number_places(PyObject *module, PyObject *arguments);   /* numbers.c */
PyObject *cut_lines(PyObject *module, PyObject *arguments);       /* lines.c */
PyObject *longest_texts(PyObject *module, PyObject *arguments);  /* markup.c */
PyObject *fasttext_open(PyObject *module, PyObject *arguments);    /* fasttext_file.c */
PyObject *fasttext_labels(PyObject *module, PyObject *arguments);  /* fasttext_file.c */
PyObject *fasttext_predict(PyObject *module, PyObject *arguments); /* fasttext.c */

#endif
