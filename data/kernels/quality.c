/* Everything of a text that is counted for the measures of quality; what is made of the counts is data/corpus/quality.py's. */
#include "repetition.h"
#include "text.h"

/* Bits of the table of flags, by which quality.py names sets of characters. */
enum {
    PUNCTUATION = 1,
    BULLET = 2,
    TERMINAL = 4,
    SPACED_END = 8,     /* ends a sentence before white space */
    UNSPACED_END = 16,  /* ends one before anything */
    SPACED_CLOSER = 32, /* may stand between the end and the white space */
    UNSPACED_CLOSER = 64,
};
#define FLAGS 0x10000
#define DISTINCT_WORDS 1000 /* the share of distinct words falls with length, so the length is bounded */
#define LONGEST_STOP_WORD 4 /* characters */
#define ENGLISH 0xFF        /* bits of the stop words of spaced text; those above are Chinese */

/* The counts of a text in their order, int64 each. */
#define COUNTS(X) \
    X(words) X(unspaced_words) X(word_characters) X(distinct_words) X(stop_words) \
    X(tokens) X(token_characters) X(tokens_with_letter) X(letters) X(alphabetic) X(shown) X(others) X(punctuation) \
    X(digits) X(capitals) X(unreadable) X(hashes) X(ellipses) X(curly_brackets) X(lorem_ipsums) X(markup) X(newlines) \
    X(lines) X(prose_lines) X(bullet_lines) X(ellipsis_lines) X(punctuated_lines) X(short_lines) X(sentences) \
    X(line_characters) X(repeated_lines) X(repeated_line_characters) \
    X(paragraphs) X(paragraph_characters) X(repeated_paragraphs) X(repeated_paragraph_characters) \
    X(top_2gram_characters) X(top_3gram_characters) X(top_4gram_characters) \
    X(duplicate_5gram_characters) X(duplicate_6gram_characters) X(duplicate_7gram_characters) \
    X(duplicate_8gram_characters) X(duplicate_9gram_characters) X(duplicate_10gram_characters)
#define FIELD(name) int64_t name;
#define NAME(name) #name,
typedef struct {
    COUNTS(FIELD)
} Counts;
static const char *const names[] = {COUNTS(NAME)};
#define COUNT_OF_NAMES (sizeof names / sizeof *names)

/* What is the same for all texts. */
typedef struct {
    Classes classes;
    const uint8_t *flags;
    Counter stop_words; /* note: the number of the word */
} Tables;

/* One text: `length` characters and a line end behind them. */
typedef struct {
    const Py_UCS4 *codes;
    Py_ssize_t length;
    const Tables *tables;
} Text;

static inline uint8_t class_at(const Text *text, Py_ssize_t at)
{
    return class_of(text->tables->classes, text->codes[at]);
}

static inline uint8_t flags_at(const Text *text, Py_ssize_t at)
{
    Py_UCS4 code = text->codes[at];
    return code < FLAGS ? text->tables->flags[code] : 0;
}

static inline int is_digit(Py_UCS4 code)
{
    return code - '0' <= 9 || code - 0xFF10 <= 9;
}

/* Whether `word` stands at `at`; with `any_case` also in capitals, and it is given in small letters then. */
static int stands_at(const Text *text, Py_ssize_t at, const char *word, int any_case)
{
    for (; *word; word++, at++)
        if (at >= text->length || (text->codes[at] | (any_case && *word >= 'a' ? 32 : 0)) != (Py_UCS4)*word)
            return 0;
    return 1;
}

/* Addresses, tags, braces and entities that an extractor left. */
static int is_markup(const Text *text, Py_ssize_t at)
{
    static const char *const entities[] = {"&nbsp;", "&amp;", "&lt;", "&gt;", "&quot;"};
    const Py_UCS4 *here = text->codes + at;
    switch (*here) {
    case '{':
    case '}':
        return 1;
    case ':':
        return here[1] == '/' && here[2] == '/';
    case '.':
        return at >= 3 && here[-1] == 'w' && here[-2] == 'w' && here[-3] == 'w';
    case '<':
        return ((here[1] == '/' ? here[2] : here[1]) | 32) - 'a' <= 'z' - 'a';
    case '&':
        for (size_t i = 0; i < sizeof entities / sizeof *entities; i++)
            if (stands_at(text, at, entities[i], 0))
                return 1;
    }
    return 0;
}

/* A pair that UTF-8 leaves when read as Latin-1 or windows-1252: Ã, Â, â and the like, followed by symbols. */
static int is_mojibake(Py_UCS4 lead, Py_UCS4 follow)
{
    return lead - 0xC2 <= 0xF4 - 0xC2 && (follow - 0x80 <= 0x3F || follow - 0x2010 <= 0x2122 - 0x2010 || follow == 0x20AC);
}

static void count_characters(const Text *text, Counts *counts)
{
    Py_ssize_t dots = 0;
    for (Py_ssize_t at = 0; at < text->length; at++) {
        Py_UCS4 code = text->codes[at];
        uint8_t class = class_at(text, at);
        counts->digits += is_digit(code);
        counts->capitals += code - 'A' <= 'Z' - 'A';
        if (code - 0xC2 <= 0xF4 - 0xC2 && is_mojibake(code, text->codes[at + 1]))
            counts->unreadable += 2;
        if (class == LETTER || class == UNSPACED) {
            counts->letters++;
            counts->alphabetic += !is_digit(code);
            if ((code | 32) == 'l')
                counts->lorem_ipsums += stands_at(text, at, "lorem ipsum", 1);
        } else if (class == OTHER) {
            counts->others++;
            counts->punctuation += (flags_at(text, at) & PUNCTUATION) != 0;
            counts->unreadable += code == 0xFFFD || code - 0xE000 <= 0xF8FF - 0xE000; /* private characters */
            counts->hashes += code == '#' || code == 0xFF03;
            counts->ellipses += code == 0x2026;
            counts->curly_brackets += code == '{';
            counts->markup += is_markup(text, at);
            if (code == '.') {
                counts->ellipses += ++dots % 3 == 0;
                continue;
            }
        } else {
            counts->newlines += code == '\n';
        }
        dots = 0;
    }
    counts->shown = counts->letters + counts->others;
}

/* Whitespace-separated tokens, as Gopher counts words; a table's bars are none. */
static void count_tokens(const Text *text, Counts *counts)
{
    for (Py_ssize_t at = 0; at < text->length;) {
        Py_ssize_t start = at;
        int has_letter = 0;
        uint8_t class;
        for (; at < text->length && (class = class_at(text, at)) != SPACE && text->codes[at] != '|'; at++)
            has_letter |= (class == LETTER || class == UNSPACED) && !is_digit(text->codes[at]);
        counts->tokens += at > start;
        counts->token_characters += at - start;
        counts->tokens_with_letter += has_letter;
        at += at == start; /* over white space or a bar */
    }
}

/* Of the first words how many differ, and how many different stop words there are. */
static int count_kinds(const Text *text, const Words *words, Counter *counter, Counts *counts)
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
        if (words->ends[i] - words->starts[i] > LONGEST_STOP_WORD)
            continue;
        const Slot *slot = counter_find(&text->tables->stop_words, words->hashes[i]);
        if (slot->count)
            found |= UINT64_C(1) << slot->note;
    }
    found &= words->singles * 2 > words->count ? ~(uint64_t)ENGLISH : ENGLISH;
    for (; found; found &= found - 1)
        counts->stop_words++;
    return 0;
}

/* Whether the mark at `at` ends a sentence and more text follows on its line: closers, white space where needed, text. */
static int ends_within_line(const Text *text, Py_ssize_t at, uint8_t closer, int needs_space)
{
    do
        at++;
    while (at < text->length && flags_at(text, at) & closer);
    if (class_at(text, at) != SPACE)
        return !needs_space;
    while (at < text->length && text->codes[at] != '\n' && class_at(text, at) == SPACE)
        at++;
    return at < text->length && text->codes[at] != '\n';
}

static void count_sentence_ends(const Text *text, Counts *counts)
{
    for (Py_ssize_t at = 0; at < text->length; at++) {
        uint8_t flags = flags_at(text, at);
        if (flags & SPACED_END)
            counts->sentences += ends_within_line(text, at, SPACED_CLOSER, 1);
        else if (flags & UNSPACED_END)
            counts->sentences += ends_within_line(text, at, UNSPACED_CLOSER, 0);
    }
}

/* Counts a stretch among those seen before; 1 where it is a later copy. */
static int stood_before(Counter *counter, uint64_t hash)
{
    Slot *slot = counter_find(counter, hash);
    int before = slot->count != 0;
    slot->key = hash;
    slot->count = 1;
    return before;
}

static void count_line(const Text *text, Py_ssize_t start, Py_ssize_t end, Py_ssize_t shortest, Counts *counts)
{
    Py_UCS4 first = text->codes[start], last = text->codes[end - 1];
    int dots = (last == '.' || last == 0x3002) && end - start >= 3 && text->codes[end - 2] == last && text->codes[end - 3] == last;
    counts->lines++;
    counts->sentences++;
    counts->line_characters += end - start;
    counts->bullet_lines += (flags_at(text, start) & BULLET) != 0;
    counts->ellipsis_lines += dots || last == 0x2026;
    if (first != '|') { /* a table's rows end in no full stop */
        counts->prose_lines++;
        counts->punctuated_lines += (flags_at(text, end - 1) & TERMINAL) != 0;
        counts->short_lines += end - start <= shortest;
    }
}

static void count_paragraph(const Text *text, Py_ssize_t start, Py_ssize_t end, Counter *counter, Counts *counts)
{
    counts->paragraphs++;
    counts->paragraph_characters += end - start;
    if (stood_before(counter, hash_codes(text->codes + start, end - start))) {
        counts->repeated_paragraphs++;
        counts->repeated_paragraph_characters += end - start;
    }
}

/* Lines that are not blank, trimmed, and paragraphs: lines without a blank one between them. */
static int count_lines(const Text *text, int unspaced, Counter *lines, Counter *paragraphs, Counts *counts)
{
    /* FineWeb's 30 characters, of which Chinese needs about half */
    Py_ssize_t shortest = unspaced ? 15 : 30, paragraph = -1, paragraph_end = 0;
    size_t most = (size_t)counts->newlines + 1;
    if (counter_reset(lines, most) || counter_reset(paragraphs, most))
        return -1;
    for (Py_ssize_t at = 0; at <= text->length; at++) { /* the line end behind the text included */
        Py_ssize_t start = -1, end = 0;
        for (; text->codes[at] != '\n'; at++)
            if (class_at(text, at) != SPACE) {
                start = start < 0 ? at : start;
                end = at + 1;
            }
        if (start < 0) {
            if (paragraph >= 0)
                count_paragraph(text, paragraph, paragraph_end, paragraphs, counts);
            paragraph = -1;
            continue;
        }
        count_line(text, start, end, shortest, counts);
        if (stood_before(lines, hash_codes(text->codes + start, end - start))) {
            counts->repeated_lines++;
            counts->repeated_line_characters += end - start;
        }
        paragraph = paragraph < 0 ? start : paragraph;
        paragraph_end = end;
    }
    if (paragraph >= 0)
        count_paragraph(text, paragraph, paragraph_end, paragraphs, counts);
    return 0;
}

/* Memory that is used again from text to text. */
typedef struct {
    Words words;
    Py_ssize_t allocated;
    Counter kinds, paragraphs;
    Repetition repetition;
} Memory;

static int count_text(const Text *text, Memory *memory, Counts *counts)
{
    if (text->length > memory->allocated || !memory->words.hashes) {
        end_words(&memory->words);
        if (new_words(&memory->words, text->length))
            return -1;
        memory->allocated = text->length;
    }
    Words *words = &memory->words;
    words->count = words->singles = 0;
    find_words(words, text->codes, text->length, text->tables->classes);
    int unspaced = words->singles * 2 > words->count;
    counts->words = words->count;
    counts->unspaced_words = words->singles;
    count_characters(text, counts);
    count_tokens(text, counts);
    count_sentence_ends(text, counts);
    if (count_kinds(text, words, &memory->kinds, counts) || count_lines(text, unspaced, &memory->kinds, &memory->paragraphs, counts) ||
        count_repetition(&memory->repetition, words, unspaced ? 2 : 1, &counts->top_2gram_characters))
        return -1;
    counts->word_characters = memory->repetition.ends[words->count];
    return 0;
}

/* The counts of one str, of its first `most` characters. */
static int count_object(PyObject *object, Py_ssize_t most, const Tables *tables, Memory *memory, Counts *counts)
{
    Py_ssize_t length;
    PyObject *beginning = PyUnicode_Check(object) ? PyUnicode_Substring(object, 0, most) : PyErr_Format(PyExc_TypeError, "texts are str");
    Py_UCS4 *codes = beginning ? take_codes(beginning, &length) : NULL;
    Py_XDECREF(beginning);
    if (!codes)
        return -1;
    codes[length] = '\n';
    Text text = {codes, length, tables};
    int failed = count_text(&text, memory, counts);
    PyMem_Free(codes);
    return failed;
}

static int take_stop_words(Counter *counter, const Array *hashes, const Array *numbers)
{
    const uint64_t *hash = hashes->items;
    const uint8_t *number = numbers->items;
    if (counter_reset(counter, (size_t)hashes->count))
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
    PyObject *given, *objects[4], *texts = NULL, *found = NULL;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(arguments, "OnOOOO", &given, &most, &objects[0], &objects[1], &objects[2], &objects[3]))
        return NULL;
    Array arrays[4];
    memset(arrays, 0, sizeof arrays);
    Tables tables = {0};
    Memory memory = {0};
    if (most < 0 || most > UINT32_MAX / 2) { /* places are kept in 32 bits */
        PyErr_Format(PyExc_ValueError, "texts are measured up to %zd characters, not to %zd", (Py_ssize_t)(UINT32_MAX / 2), most);
        goto end;
    }
    if (take_classes(&arrays[0], &tables.classes, objects[0]) || take_array(&arrays[1], objects[1], 1, FLAGS, 0) ||
        take_array(&arrays[2], objects[2], 8, 0, 0) || take_array(&arrays[3], objects[3], 1, arrays[2].count, 0) ||
        take_stop_words(&tables.stop_words, &arrays[2], &arrays[3]) || !(texts = PySequence_Fast(given, "texts are a sequence")))
        goto end;
    tables.flags = arrays[1].items;
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
    end_words(&memory.words);
    end_repetition(&memory.repetition);
    for (int i = 0; i < 4; i++)
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
