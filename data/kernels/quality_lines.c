/* What is counted of a text line by line. */
#include "quality.h"

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
    counts->bullet_lines += (text->traits[start] & BULLET) != 0;
    counts->ellipsis_lines += dots || last == 0x2026;
    if (first != '|') { /* a table's rows end in no full stop */
        counts->prose_lines++;
        counts->punctuated_lines += (text->traits[end - 1] & TERMINAL) != 0;
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

int count_lines(const Text *text, int unspaced, Counter *lines, Counter *paragraphs, Counts *counts)
{
    /* FineWeb's 30 characters, of which Chinese needs about half */
    Py_ssize_t shortest = unspaced ? 15 : 30, paragraph = -1, paragraph_end = 0;
    size_t most = (size_t)counts->newlines + 1;
    if (counter_reset(lines, most) || counter_reset(paragraphs, most))
        return -1;
    for (Py_ssize_t at = 0; at <= text->length; at++) { /* the line end behind the text included */
        Py_ssize_t start = at;
        while (text->codes[at] != '\n')
            at++;
        Py_ssize_t end = at;
        while (start < end && !is_shown(text, start))
            start++;
        while (end > start && !is_shown(text, end - 1))
            end--;
        if (start == end) {
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
