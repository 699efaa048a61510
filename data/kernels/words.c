/* Words of a text and their hashes, shingles, the hash of a whole text: as data/text.py describes them. */
#include "text.h"

int new_words(Words *words, Py_ssize_t length)
{
    size_t count = (size_t)length + 1;
    *words = (Words){PyMem_Malloc(count * 8), PyMem_Malloc(count * 8), PyMem_Malloc(count * 8), PyMem_Malloc(count), 0, 0};
    if (words->starts && words->ends && words->hashes && words->unspaced)
        return 0;
    end_words(words);
    PyErr_NoMemory();
    return -1;
}

void end_words(Words *words)
{
    PyMem_Free(words->starts);
    PyMem_Free(words->ends);
    PyMem_Free(words->hashes);
    PyMem_Free(words->unspaced);
    *words = (Words){0};
}

/* A hash of a text as its pieces between white space. */
typedef struct {
    uint64_t sum, power;
} Pieces;

static void add_piece(Pieces *pieces, uint64_t hash)
{
    pieces->sum += (hash + 1) * pieces->power;
    pieces->power *= MULTIPLIER;
}

#define SHORT_WORD 8
#define SQUARE (MULTIPLIER * MULTIPLIER)
#define FOURTH (SQUARE * SQUARE)
static const uint64_t powers[SHORT_WORD] = { /* of MULTIPLIER */
    1, MULTIPLIER, SQUARE, SQUARE * MULTIPLIER, FOURTH, FOURTH * MULTIPLIER, FOURTH * SQUARE, FOURTH * SQUARE * MULTIPLIER,
};

/* hash_codes. Of a short word without a branch: how many characters a word has cannot be guessed. */
static inline uint64_t hash_word(const Py_UCS4 *codes, Py_ssize_t length)
{
    if (length > SHORT_WORD)
        return hash_codes(codes, length);
    uint64_t sum = 0;
    for (Py_ssize_t at = 0; at < SHORT_WORD; at++)
        sum += (at < length ? (uint64_t)codes[at] + 1 : 0) * powers[at];
    return mix(sum);
}

static inline void add_word(Words *words, const Py_UCS4 *codes, Py_ssize_t start, Py_ssize_t end, int unspaced)
{
    if (words->starts) {
        words->starts[words->count] = start;
        words->ends[words->count] = end;
        words->unspaced[words->count] = (uint8_t)unspaced;
    }
    words->hashes[words->count++] = hash_word(codes + start, end - start);
    words->singles += unspaced;
}

/* What the characters of a block are, a bit for each. */
typedef struct {
    uint64_t letters, unspaced, spaces;
} Kinds;

static inline Kinds kinds_of(const uint8_t *found)
{
    uint8_t letters[BLOCK], unspaced[BLOCK], spaces[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
        letters[i] = found[i] == LETTER;
        unspaced[i] = found[i] == UNSPACED;
        spaces[i] = found[i] == SPACE;
    }
    return (Kinds){bits_of(letters), bits_of(unspaced), bits_of(spaces)};
}

/* The words, and the pieces where these are asked for: many are one word and have its hash. Classes are those of `traits`, if there are any.
   A block behind the codes can be read. */
static inline void scan(Words *words, const Py_UCS4 *codes, Py_ssize_t length, Classes classes, const uint16_t *traits, Pieces *pieces)
{
    Py_ssize_t piece = 0, start = 0, end = 0; /* where the piece began, and the last word began and ended */
    uint64_t inside = 0;                      /* whether a word goes on */
    for (Py_ssize_t block = 0; block <= length; block += BLOCK) {
        uint8_t found[BLOCK];
        for (int i = 0; i < BLOCK; i++)
            found[i] = traits ? traits[block + i] & 3 : class_of(classes, codes[block + i]);
        Kinds kinds = kinds_of(found);
        if (length - block < BLOCK) { /* behind the text one white space */
            uint64_t rest = UINT64_C(1) << (length - block);
            kinds = (Kinds){kinds.letters & (rest - 1), kinds.unspaced & (rest - 1), (kinds.spaces & (rest - 1)) | rest};
        }
        uint64_t borders = kinds.letters ^ (kinds.letters << 1 | inside);
        inside = kinds.letters >> (BLOCK - 1);
        for (uint64_t bits = borders | kinds.unspaced | (pieces ? kinds.spaces : 0); bits; bits &= bits - 1) {
            uint64_t bit = bits & -bits;
            Py_ssize_t at = block + lowest(bits);
            if (borders & bit) {
                if (kinds.letters & bit) {
                    start = at;
                    continue;
                }
                end = at;
                add_word(words, codes, start, end, 0);
            }
            if (kinds.unspaced & bit) {
                start = at;
                end = at + 1;
                add_word(words, codes, start, end, 1);
            } else if (pieces && kinds.spaces & bit) {
                if (at > piece)
                    add_piece(pieces, start == piece && end == at ? words->hashes[words->count - 1] : hash_codes(codes + piece, at - piece));
                piece = at + 1;
            }
        }
    }
}

void find_words(Words *words, const Py_UCS4 *codes, Py_ssize_t length, Classes classes)
{
    scan(words, codes, length, classes, NULL, NULL);
}

void find_words_by_traits(Words *words, const Py_UCS4 *codes, Py_ssize_t length, const uint16_t *traits)
{
    scan(words, codes, length, (Classes){0}, traits, NULL);
}

/* bytes with room for `count` items, to be filled; NULL with MemoryError set. */
static PyObject *new_bytes(Py_ssize_t count, size_t size)
{
    if (count > PY_SSIZE_T_MAX / (Py_ssize_t)size)
        return PyErr_NoMemory();
    return PyBytes_FromStringAndSize(NULL, count * (Py_ssize_t)size);
}

PyObject *scan_words(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *text, *classes_object;
    PyObject *parts[4] = {NULL, NULL, NULL, NULL};
    static const size_t sizes[4] = {8, 8, 8, 1};
    if (!PyArg_ParseTuple(arguments, "OO", &text, &classes_object))
        return NULL;
    Array table = {0};
    Classes classes;
    Py_ssize_t length;
    Py_UCS4 *codes = NULL;
    PyObject *found = NULL;
    if (take_classes(&table, &classes, classes_object) || !(codes = take_codes(text, PY_SSIZE_T_MAX, &length)))
        goto end;
    for (int i = 0; i < 4; i++)
        if (!(parts[i] = new_bytes(length, sizes[i])))
            goto end;
    Words words = {(int64_t *)PyBytes_AS_STRING(parts[0]), (int64_t *)PyBytes_AS_STRING(parts[1]),
                   (uint64_t *)PyBytes_AS_STRING(parts[2]), (uint8_t *)PyBytes_AS_STRING(parts[3]), 0, 0};
    find_words(&words, codes, length, classes);
    for (int i = 0; i < 4; i++)
        if (_PyBytes_Resize(&parts[i], words.count * (Py_ssize_t)sizes[i]))
            goto end;
    found = PyTuple_Pack(4, parts[0], parts[1], parts[2], parts[3]);
end:
    for (int i = 0; i < 4; i++)
        Py_XDECREF(parts[i]);
    PyMem_Free(codes);
    give_back(&table);
    return found;
}

/* Hashes of all runs of `size` words, in place; `size` is 1 to `count`. Their number is returned. */
static Py_ssize_t hash_runs(uint64_t *hashes, Py_ssize_t count, Py_ssize_t size)
{
    uint64_t sum = 0, oldest = 1; /* oldest: what the first word of a run is multiplied by */
    for (Py_ssize_t i = 0; i < size; i++) {
        sum = sum * MULTIPLIER + hashes[i];
        oldest *= i ? MULTIPLIER : 1;
    }
    for (Py_ssize_t at = 0;; at++) {
        uint64_t first = hashes[at];
        hashes[at] = mix(sum);
        if (at + size == count)
            return at + 1;
        sum = (sum - first * oldest) * MULTIPLIER + hashes[at + size];
    }
}

uint64_t hash_codes(const Py_UCS4 *codes, Py_ssize_t length)
{
    const uint64_t second = MULTIPLIER, third = second * MULTIPLIER, fourth = third * MULTIPLIER, next = fourth * MULTIPLIER;
    uint64_t sum = 0, power = 1;
    Py_ssize_t at = 0;
    for (; at + 4 <= length; at += 4) { /* four products that do not wait for each other */
        uint64_t four = ((uint64_t)codes[at] + 1) + ((uint64_t)codes[at + 1] + 1) * second + ((uint64_t)codes[at + 2] + 1) * third +
                        ((uint64_t)codes[at + 3] + 1) * fourth;
        sum += four * power;
        power *= next;
    }
    for (; at < length; at++) {
        sum += ((uint64_t)codes[at] + 1) * power;
        power *= MULTIPLIER;
    }
    return mix(sum);
}

PyObject *shingles(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *text, *tables[2], *classes_object, *found = NULL, *answer = NULL;
    Py_ssize_t of_words, of_characters, length;
    if (!PyArg_ParseTuple(arguments, "O(OO)Onn", &text, &tables[0], &tables[1], &classes_object, &of_words, &of_characters))
        return NULL;
    if (of_words < 1 || of_characters < 1)
        return PyErr_Format(PyExc_ValueError, "a shingle has one word or more, not %zd or %zd", of_words, of_characters);
    Array table = {0};
    Forms forms = {0};
    Classes classes;
    Py_UCS4 *codes = NULL;
    if (take_forms(&forms, tables[0], tables[1]) || take_classes(&table, &classes, classes_object) ||
        !(codes = take_normal(text, PY_SSIZE_T_MAX, &forms, 0, &length)) || !(found = new_bytes(length + 1, 8)))
        goto end;
    Words words = {.hashes = (uint64_t *)PyBytes_AS_STRING(found)};
    Pieces pieces = {0, 1};
    scan(&words, codes, length, classes, NULL, &pieces);
    Py_ssize_t size = words.singles * 2 > words.count ? of_characters : of_words;
    Py_ssize_t count = 1;
    if (words.count >= size) {
        count = hash_runs(words.hashes, words.count, size);
    } else if (words.count) { /* all words of a short text, told from a run in a longer one by their number */
        hash_runs(words.hashes, words.count, words.count);
        words.hashes[0] += (uint64_t)words.count;
    } else { /* a text without words is itself */
        Py_ssize_t start = 0;
        while (start < length && is_space(codes[start]))
            start++;
        while (length > start && is_space(codes[length - 1]))
            length--;
        static const Py_UCS4 nothing = 0;
        words.hashes[0] = length > start ? hash_codes(codes + start, length - start) : hash_codes(&nothing, 1);
    }
    if (!_PyBytes_Resize(&found, count * 8))
        answer = Py_BuildValue("KO", (unsigned long long)mix(pieces.sum), found);
end:
    Py_XDECREF(found);
    PyMem_Free(codes);
    give_back_forms(&forms);
    give_back(&table);
    return answer;
}
