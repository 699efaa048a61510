/* What all kernels share: buffers from Python, classes of characters, hashes of sequences (those of data/text.py). */
#ifndef CRAWL2CHAT_TEXT_H
#define CRAWL2CHAT_TEXT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

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

/* The place of the lowest and of the highest bit of what is not 0. */
static inline int lowest(uint64_t bits)
{
    return __builtin_ctzll(bits);
}

static inline int highest(uint64_t bits)
{
    return 63 - __builtin_clzll(bits);
}

/* How many bits are set; older processors have no instruction for it, so the compiler's own would be a function. */
static inline int count_bits(uint64_t bits)
{
    bits -= bits >> 1 & UINT64_C(0x5555555555555555);
    bits = (bits & UINT64_C(0x3333333333333333)) + (bits >> 2 & UINT64_C(0x3333333333333333));
    return (int)(((bits + (bits >> 4)) & UINT64_C(0x0F0F0F0F0F0F0F0F)) * UINT64_C(0x0101010101010101) >> 56);
}

#define BLOCK 64 /* characters or bytes that are looked at together */

/* A bit for each of BLOCK flags, which are 0 or 1, the lowest for the first. */
static inline uint64_t bits_of(const uint8_t *flags)
{
    uint64_t bits = 0;
#ifdef __SSE2__
    for (int at = 0; at < BLOCK; at += 16) {
        __m128i sixteen = _mm_loadu_si128((const __m128i *)(flags + at));
        bits |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpgt_epi8(sixteen, _mm_setzero_si128())) << at;
    }
#else
    for (int at = 0; at < BLOCK; at++)
        bits |= (uint64_t)flags[at] << at;
#endif
    return bits;
}

/* What str.isspace says. */
static inline int is_space(Py_UCS4 code)
{
    if (code - 0x80 < FIRST_WIDE_SPACE - 0x80) /* letters of half the scripts: no function is called for them */
        return code == 0x85 || code == 0xA0;
    return code <= LAST_SPACE && Py_UNICODE_ISSPACE(code);
}

/* Beyond ASCII what is decimal stands from here on, but not from NO_DECIMAL to LAST_NO_DECIMAL, Chinese among them. */
#define FIRST_DECIMAL 0x660
#define NO_DECIMAL 0x1C5A
#define LAST_NO_DECIMAL 0xA61F

/* What str.isdecimal says. */
static inline int is_decimal(Py_UCS4 code)
{
    if (code < FIRST_DECIMAL)
        return code - '0' <= 9;
    return code - NO_DECIMAL > LAST_NO_DECIMAL - NO_DECIMAL && Py_UNICODE_ISDECIMAL(code);
}

/* What str.isupper says of a character, and its small letter, if that is one; from U+2E00 to U+A63F, Chinese among them, no script has capitals. */
static inline int has_no_case(Py_UCS4 code)
{
    return code - 0x2E00 <= 0xA63F - 0x2E00;
}

static inline int is_capital(Py_UCS4 code)
{
    return code < 128 ? code - 'A' <= 'Z' - 'A' : !has_no_case(code) && Py_UNICODE_ISUPPER(code);
}

static inline Py_UCS4 small(Py_UCS4 code)
{
    if (code < 128)
        return code + (code - 'A' <= 'Z' - 'A' ? 'a' - 'A' : 0);
    return has_no_case(code) ? code : Py_UNICODE_TOLOWER(code);
}

/* Where the line ends that goes on at `at`: `length` in the last one. */
static inline Py_ssize_t line_end(const Py_UCS4 *codes, Py_ssize_t at, Py_ssize_t length)
{
    enum { TOGETHER = 8 };
    for (; length - at >= TOGETHER; at += TOGETHER) {
        int ends = 0;
        for (int i = 0; i < TOGETHER; i++)
            ends |= codes[at + i] == '\n';
        if (ends)
            break;
    }
    while (at < length && codes[at] != '\n')
        at++;
    return at;
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

/* The same of a text whose characters' classes are the two lowest bits of `traits`, behind which a block can be read. */
void find_words_by_traits(Words *words, const Py_UCS4 *codes, Py_ssize_t length, const uint16_t *traits);

/* Hash of a stretch of characters: mix of the sum of (code + 1) * MULTIPLIER^place, as that of a word. */
uint64_t hash_codes(const Py_UCS4 *codes, Py_ssize_t length);

/* Appends `item`, which may be NULL with an exception set, and gives it up; 0, or -1 with an exception set. */
int append_new(PyObject *list, PyObject *item);

/* UTF-8 of a text, which is a str or a buffer of it. Zeroed before it is taken, it may be given back in any state (codes.c). */
typedef struct {
    Array bytes;
    PyObject *encoded; /* of a str, in which there may be lone surrogates */
} Utf8;

int take_utf8(Utf8 *text, PyObject *object);
void give_back_utf8(Utf8 *text);

/* Bytes of the character at `at`, which is beyond ASCII; 0 with ValueError set where none begins. */
Py_ssize_t decode_character(const Utf8 *text, Py_ssize_t at, Py_UCS4 *code);

/* Code points of a text, which is a str or a buffer of UTF-8, of `most` characters at most, and behind the last BLOCK zeros; NULL with an
   exception set. Ends with PyMem_Free (codes.c). */
Py_UCS4 *take_codes(PyObject *text, Py_ssize_t most, Py_ssize_t *length);

/* How many code points a text has that take_codes took. */
Py_ssize_t count_codes(PyObject *text);

/* UTF-8 of code points without surrogates; NULL with MemoryError set. */
PyObject *utf8_of(const Py_UCS4 *codes, Py_ssize_t length);

/* What each character becomes, a data.character_tables.Forms. Zeroed before they are taken, they may be given back in any state (forms.c). */
typedef struct {
    Array table, longer;
    int small_ascii; /* whether the forms of printable ASCII are its small letters */
} Forms;

int take_forms(Forms *forms, PyObject *table, PyObject *longer);
void give_back_forms(Forms *forms);

/* As take_codes: NFKC and lower case, by the forms and, where characters change beside each other, by unicodedata. `single_spaces`: white
   space, which is blanks by the forms, folded. */
Py_UCS4 *take_normal(PyObject *text, Py_ssize_t most, const Forms *forms, int single_spaces, Py_ssize_t *length);

/* As take_codes: every character in its form, of blanks beside each other one, none at the ends; NULL without an exception where some form
   depends on its neighbours. */
Py_UCS4 *take_folded(PyObject *text, const Forms *forms, Py_ssize_t *length);

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
PyObject *normalise(PyObject *module, PyObject *arguments);      /* forms.c */
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
PyObject *find_folded_terms(PyObject *module, PyObject *arguments); /* terms.c */
PyObject *number_places(PyObject *module, PyObject *arguments);   /* numbers.c */
PyObject *cut_lines(PyObject *module, PyObject *arguments);       /* lines.c */
PyObject *longest_texts(PyObject *module, PyObject *arguments);  /* markup.c */
PyObject *fasttext_open(PyObject *module, PyObject *arguments);    /* fasttext_file.c */
PyObject *fasttext_labels(PyObject *module, PyObject *arguments);  /* fasttext_file.c */
PyObject *fasttext_predict(PyObject *module, PyObject *arguments); /* fasttext.c */

#endif
