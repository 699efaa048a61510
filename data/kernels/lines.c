/* A text without the lines that data/corpus/lines.py takes for chrome. It is asked of those alone that may be: most are prose by
   their first characters. */
#include "text.h"

/* Marks of a line, as lines.py names them. */
enum {
    LETTERLESS = 1, /* figures and signs alone */
    SHOUTED = 2,    /* capitals, most of it */
    SEPARATED = 4,  /* short pieces between separators may be in it, and it ends no sentence */
    ENDLESS = 8,    /* it has a word that is none */
};
#define REPEATABLE 12  /* shorter lines may stand twice */
#define SHORT 200      /* longer lines are prose */
#define WORD 1000      /* C4: a line with a longer word is no text */
#define CAPITALS 0.6   /* RefinedWeb: "mainly composed of uppercase characters" */
#define MOST_UNSHOUTED 15 /* letters of a line that may be capitals */
#define SEPARATORS 3   /* of four pieces */
#define BEGINNING 6    /* characters of an outline; data/corpus/line_patterns.py has it too */

/* What changes its small letter with its neighbours, or becomes more than one: of such lines everybody else is asked. */
#define SIGMA 0x3A3
#define DOTTED_I 0x130

static int is_letterless(const Py_UCS4 *line, Py_ssize_t length)
{
    for (Py_ssize_t at = 0; at < length; at++)
        if (Py_UNICODE_ISALNUM(line[at]) && !Py_UNICODE_ISDECIMAL(line[at]))
            return 0;
    return 1;
}

static int is_shouted(const Py_UCS4 *line, Py_ssize_t length)
{
    Py_ssize_t letters = 0, capitals = 0, words = 1; /* a line is trimmed */
    for (Py_ssize_t at = 0; at < length; at++)
        capitals += is_capital(line[at]);
    if ((double)capitals <= CAPITALS * MOST_UNSHOUTED)
        return 0; /* nearly every line: letters need not be counted */
    for (Py_ssize_t at = 0; at < length; at++) {
        if (is_space(line[at]))
            words += !is_space(line[at - 1]);
        else
            letters += Py_UNICODE_ISALPHA(line[at]) != 0;
    }
    return letters > MOST_UNSHOUTED && (double)capitals > CAPITALS * (double)letters && words > 3;
}

static int ends_sentence(const Py_UCS4 *line, Py_ssize_t length)
{
    for (; length; length--) {
        switch (line[length - 1]) {
        case '"': case '\'': case 0x201D: case 0x2019: case 0x300D: case 0x300F: case 0xFF09: case ')': /* stand behind the mark */
            continue;
        case '.': case '!': case '?': case 0x3002: case 0xFF01: case 0xFF1F: case 0x2026:
            return 1;
        default:
            return 0;
        }
    }
    return 0;
}

static int separates(const Py_UCS4 *line, Py_ssize_t length, Py_ssize_t at)
{
    switch (line[at]) {
    case '|': case 0xBB: case 0x203A: case 0xB7: case 0x2022: case 0xFF0F: case 0x4E28:
        return 1;
    case '>': case '/': case 0x2013: case 0x2014: case '-': /* between blanks */
        return at && at + 1 < length && is_space(line[at - 1]) && is_space(line[at + 1]);
    default:
        return 0;
    }
}

static int is_separated(const Py_UCS4 *line, Py_ssize_t length)
{
    int found = 0;
    for (Py_ssize_t at = 0; at < length && found < SEPARATORS; at++)
        found += separates(line, length, at);
    return found >= SEPARATORS && line[0] != '|' && !ends_sentence(line, length);
}

static int is_endless(const Py_UCS4 *line, Py_ssize_t length)
{
    Py_ssize_t run = 0;
    for (Py_ssize_t at = 0; at < length && run <= WORD; at++)
        run = line[at] - '!' <= '~' - '!' ? run + 1 : 0;
    return run > WORD;
}

static int marks_of(const Py_UCS4 *line, Py_ssize_t length)
{
    if (is_letterless(line, length))
        return LETTERLESS;
    if (length > SHORT)
        return length > WORD && is_endless(line, length) ? ENDLESS : 0;
    return (is_shouted(line, length) ? SHOUTED : 0) | (is_separated(line, length) ? SEPARATED : 0);
}

typedef struct {
    const Py_UCS4 *codes;
    Py_UCS4 *kept;
    int last_is_blank; /* of the lines that are kept */
    Py_ssize_t lines, written, removed, removed_characters, characters;
    Counter before; /* hashes of the lines so far */
    Terms beginnings; /* of the other patterns, data/corpus/beginnings.py */
    Terms words;      /* of which a pattern that may begin with anything contains one */
    PyObject *ask;
    int ask_all, chrome; /* chrome: marks of which one is enough */
} Cutting;

/* Whether a pattern may begin as a line does. */
static int may_match(const Cutting *cutting, const Py_UCS4 *line, Py_ssize_t length)
{
    Py_UCS4 outline[BEGINNING + 1];
    Py_ssize_t at = 0;
    for (; at < BEGINNING && at < length; at++)
        outline[at] = is_decimal(line[at]) ? '0' : is_space(line[at]) ? ' ' : small(line[at]);
    outline[at] = '\n'; /* where a line ends; else it is not looked at */
    return begins_with_term(&cutting->beginnings, outline, at < BEGINNING ? at + 1 : at);
}

/* Whether no pattern can match a short line. */
static int is_prose(const Cutting *cutting, const Py_UCS4 *line, Py_ssize_t length)
{
    Py_UCS4 lower[SHORT + 1];
    if (may_match(cutting, line, length))
        return 0;
    for (Py_ssize_t at = 0; at < length; at++) {
        Py_UCS4 code = line[at];
        if (code == SIGMA || code == DOTTED_I)
            return 0;
        lower[at] = small(code);
    }
    lower[length] = 0;
    return !contains_term(&cutting->words, lower, length);
}

/* 1 cut, 0 kept, -1 with an exception set. */
static int ask(const Cutting *cutting, Py_ssize_t start, Py_ssize_t end, int marks)
{
    PyObject *line = PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, cutting->codes + start, end - start);
    PyObject *answer = line ? PyObject_CallFunction(cutting->ask, "Oi", line, marks) : NULL;
    int is_chrome = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(line);
    Py_XDECREF(answer);
    return is_chrome;
}

/* 1 cut, 0 kept, -1 with an exception set; a trimmed line that is not empty. A copy of a line that was cut is cut like that one. */
static int is_cut(Cutting *cutting, Py_ssize_t start, Py_ssize_t end)
{
    const Py_UCS4 *line = cutting->codes + start;
    Py_ssize_t length = end - start;
    if (length >= REPEATABLE) {
        uint64_t hash = hash_codes(line, length);
        Slot *slot = counter_find(&cutting->before, hash);
        if (slot->count)
            return 1;
        *slot = (Slot){hash, 1, 0};
    }
    int marks = marks_of(line, length);
    if (marks & cutting->chrome)
        return 1;
    if (marks || cutting->ask_all || (length <= SHORT && !is_prose(cutting, line, length)))
        return ask(cutting, start, end, marks);
    return 0;
}

static void keep(Cutting *cutting, Py_ssize_t begin, Py_ssize_t end)
{
    if (cutting->lines++)
        cutting->kept[cutting->written++] = '\n';
    memcpy(cutting->kept + cutting->written, cutting->codes + begin, (size_t)(end - begin) * sizeof(Py_UCS4));
    cutting->written += end - begin;
    cutting->last_is_blank = begin == end;
}

/* One line of the text; 0, or -1 with an exception set. */
static int take_line(Cutting *cutting, Py_ssize_t begin, Py_ssize_t end)
{
    Py_ssize_t start = begin;
    while (start < end && is_space(cutting->codes[start]))
        start++;
    while (end > start && is_space(cutting->codes[end - 1]))
        end--;
    if (start == end) { /* blank lines stay, one at a time */
        if (cutting->lines && !cutting->last_is_blank)
            keep(cutting, end, end);
        return 0;
    }
    int cut = is_cut(cutting, start, end);
    if (cut < 0)
        return -1;
    cutting->characters += end - start;
    cutting->removed += cut;
    cutting->removed_characters += cut ? end - start : 0;
    if (!cut)
        keep(cutting, begin, end);
    return 0;
}

static int cut_text(Cutting *cutting, Py_ssize_t length)
{
    if (counter_reset(&cutting->before, (size_t)(length / REPEATABLE) + 1))
        return -1;
    for (Py_ssize_t begin = 0; begin <= length;) {
        Py_ssize_t end = line_end(cutting->codes, begin, length);
        if (take_line(cutting, begin, end))
            return -1;
        begin = end + 1;
    }
    return 0;
}

static PyObject *view_of_utf8(const Py_UCS4 *codes, Py_ssize_t length)
{
    PyObject *bytes = utf8_of(codes, length);
    PyObject *view = bytes ? PyMemoryView_FromObject(bytes) : NULL;
    Py_XDECREF(bytes);
    return view;
}

/* The text that is kept without white space around it, str or UTF-8 as it was given; `text` itself where nothing is gone. */
static PyObject *kept_text(const Cutting *cutting, PyObject *text, Py_ssize_t length)
{
    Py_ssize_t start = 0, end = cutting->written;
    while (start < end && is_space(cutting->kept[start]))
        start++;
    while (end > start && is_space(cutting->kept[end - 1]))
        end--;
    if (end - start == length)
        return Py_NewRef(text);
    if (!PyUnicode_Check(text))
        return view_of_utf8(cutting->kept + start, end - start);
    return PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, cutting->kept + start, end - start);
}

PyObject *cut_lines(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *text, *objects[4], *found = NULL;
    Cutting cutting = {0};
    if (!PyArg_ParseTuple(arguments, "O(OO)(OO)Oip", &text, &objects[0], &objects[1], &objects[2], &objects[3], &cutting.ask, &cutting.chrome,
                          &cutting.ask_all))
        return NULL;
    Array arrays[4] = {0};
    Py_ssize_t length;
    Py_UCS4 *codes = NULL;
    if (take_terms(&arrays[0], objects[0], &arrays[1], objects[1], &cutting.words) ||
        take_terms(&arrays[2], objects[2], &arrays[3], objects[3], &cutting.beginnings))
        goto end;
    if (!(codes = take_codes(text, PY_SSIZE_T_MAX, &length)))
        goto end;
    cutting.kept = PyMem_Malloc(((size_t)length + 1) * sizeof *codes);
    if (!cutting.kept) {
        PyErr_NoMemory();
        goto end;
    }
    cutting.codes = codes;
    if (!cut_text(&cutting, length))
        found = Py_BuildValue("Nnnn", kept_text(&cutting, text, length), cutting.removed, cutting.removed_characters, cutting.characters);
end:
    PyMem_Free(cutting.before.slots);
    PyMem_Free(cutting.kept);
    PyMem_Free(codes);
    for (int i = 0; i < 4; i++)
        give_back(&arrays[i]);
    return found;
}
