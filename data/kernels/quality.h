/* One text as quality.c and its two helpers count it. */
#ifndef CRAWL2CHAT_QUALITY_H
#define CRAWL2CHAT_QUALITY_H

#include "text.h"

/* What a character is, as data/corpus/quality.py says it in a table: its class in the two lowest bits, and these. */
enum {
    CLASS = 3,
    DIGIT = 4,
    CAPITAL = 8,
    PUNCTUATION = 16,
    BAR = 32,
    WATCHED = 64, /* more is asked of it and of what stands beside it */
    BULLET = 128,
    TERMINAL = 256,
    SPACED_END = 512,       /* ends a sentence before white space */
    UNSPACED_END = 1024,    /* ends one before anything */
    SPACED_CLOSER = 2048,   /* may stand between the end and the white space */
    UNSPACED_CLOSER = 4096,
    TOKEN = 8192,     /* neither white space nor a table's bar */
    LETTERED = 16384, /* a letter, and no digit */
    CLAUSE_END = 32768, /* of unspaced text */
};
#define TRAITS 0x20001 /* entries of the table, of which the last is that of all characters beyond */

/* The counts of a text in their order, int64 each. */
#define COUNTS(X) \
    X(characters) X(words) X(unspaced_words) X(word_characters) X(distinct_words) X(stop_words) \
    X(tokens) X(token_characters) X(tokens_with_letter) X(letters) X(alphabetic) X(shown) X(others) X(punctuation) \
    X(digits) X(capitals) X(unreadable) X(hashes) X(ellipses) X(curly_brackets) X(lorem_ipsums) X(markup) X(newlines) \
    X(lines) X(prose_lines) X(bullet_lines) X(ellipsis_lines) X(punctuated_lines) X(short_lines) X(sentences) \
    X(line_characters) X(repeated_lines) X(repeated_line_characters) \
    X(paragraphs) X(paragraph_characters) X(repeated_paragraphs) X(repeated_paragraph_characters) \
    X(top_2gram_characters) X(top_3gram_characters) X(top_4gram_characters) \
    X(duplicate_5gram_characters) X(duplicate_6gram_characters) X(duplicate_7gram_characters) \
    X(duplicate_8gram_characters) X(duplicate_9gram_characters) X(duplicate_10gram_characters)
#define FIELD(name) int64_t name;
typedef struct {
    COUNTS(FIELD)
} Counts;

/* One text: `length` characters and a line end behind them, and what each of these is; a block behind the last can be read of both. */
typedef struct {
    const Py_UCS4 *codes;
    const uint16_t *traits;
    Py_ssize_t length;
} Text;

static inline int is_shown(const Text *text, Py_ssize_t at)
{
    return (text->traits[at] & CLASS) != SPACE;
}

/* Characters by what they are, tokens, ends of sentences, and what signs stand for (quality_characters.c). */
void count_characters(const Text *text, Counts *counts);

/* Lines that are not blank, trimmed, and paragraphs: lines without a blank one between them (quality_lines.c). The counters are used up;
   0, or -1 with MemoryError set. */
int count_lines(const Text *text, int unspaced, Counter *lines, Counter *paragraphs, Counts *counts);

#endif
