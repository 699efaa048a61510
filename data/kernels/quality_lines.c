/* What is counted of a text line by line. */
#include "quality.h"

#define SHORTEST_CLAUSE 5 /* characters, its mark among them: four are a line of the oldest verse */

/* Counts a stretch among those seen before; 1 where it is a later copy. */
static int stood_before(Counter *counter, uint64_t hash)
{
    Slot *slot = counter_find(counter, hash);
    int before = slot->count != 0;
    slot->key = hash;
    slot->count = 1;
    return before;
}

/* FineWeb's 30 characters, of which Chinese needs about half; a line of it that ends a clause is verse or talk, and no entry of a list. */
static int is_short(const Text *text, Py_ssize_t start, Py_ssize_t end, int unspaced)
{
    Py_ssize_t length = end - start;
    return unspaced ? length <= 15 && (length < SHORTEST_CLAUSE || !(text->traits[end - 1] & CLAUSE_END)) : length <= 30;
}

static void count_line(const Text *text, Py_ssize_t start, Py_ssize_t end, int unspaced, Counts *counts)
{
    Py_UCS4 first = text->codes[start], last = text->codes[end - 1];
    int dots = (last == '.' || last == 0x3002) && end - start >= 3 && text->codes[end - 2] == last && text->codes[end - 3] == last;
    counts->lines++;
    counts->sentences++;
    counts->line_characters += end - start;
    counts->bullet_lines += (text->traits[start] & BULLET) != 0;
    counts->ellipsis_lines += dots || last == 0x2026;
    if (first != '|') { /* a table's rows end in no full stop */
        counts->prose_lines++;
        counts->punctuated_lines += (text->traits[end - 1] & TERMINAL) != 0;
        counts->short_lines += is_short(text, start, end, unspaced);
    }
}

/* Lines without a blank one between them, from `start` to `end`. */
typedef struct {
    Py_ssize_t start, end;
    uint64_t hash; /* of the last line */
    int lines;
} Paragraph;

static void count_paragraph(const Text *text, const Paragraph *paragraph, Counter *counter, Counts *counts)
{
    Py_ssize_t length = paragraph->end - paragraph->start;
    if (!paragraph->lines)
        return;
    counts->paragraphs++;
    counts->paragraph_characters += length;
    if (stood_before(counter, paragraph->lines == 1 ? paragraph->hash : hash_codes(text->codes + paragraph->start, length))) {
        counts->repeated_paragraphs++;
        counts->repeated_paragraph_characters += length;
    }
}

int count_lines(const Text *text, int unspaced, Counter *lines, Counter *paragraphs, Counts *counts)
{
    Paragraph paragraph = {0};
    size_t most = (size_t)counts->newlines + 1;
    if (counter_reset(lines, most) || counter_reset(paragraphs, most))
        return -1;
    for (Py_ssize_t at = 0; at <= text->length; at++) { /* the line end behind the text included */
        Py_ssize_t start = at;
        at = line_end(text->codes, at, text->length);
        Py_ssize_t end = at;
        while (start < end && !is_shown(text, start))
            start++;
        while (end > start && !is_shown(text, end - 1))
            end--;
        if (start == end) {
            count_paragraph(text, &paragraph, paragraphs, counts);
            paragraph = (Paragraph){0};
            continue;
        }
        uint64_t hash = hash_codes(text->codes + start, end - start);
        count_line(text, start, end, unspaced, counts);
        if (stood_before(lines, hash)) {
            counts->repeated_lines++;
            counts->repeated_line_characters += end - start;
        }
        paragraph = (Paragraph){paragraph.lines ? paragraph.start : start, end, hash, paragraph.lines + 1};
    }
    count_paragraph(text, &paragraph, paragraphs, counts);
    return 0;
}
