/* The file of a fastText model, read where it lies: nothing in it is believed before it is seen to hold. */
#include "fasttext.h"

#define MAGIC 793712314
#define OLDEST 11 /* version of the file; its classifiers know no n-grams of characters */
#define NEWEST 12
#define SUPERVISED 3
#define SHORTEST_ENTRY 10 /* bytes of an entry of the dictionary: an end of its name, count and type */
#define CAPSULE "data.kernels.fasttext"

enum { WORD_ENTRY, LABEL_ENTRY }; /* types of entries */

/* What is left of a file. Where it ends too early, zeros are read. */
typedef struct {
    const uint8_t *at;
    size_t left;
    int ended;
} Cursor;

static const uint8_t *take_block(Cursor *cursor, int64_t count, size_t size)
{
    if (cursor->ended || count < 0 || (size && (uint64_t)count > cursor->left / size)) {
        cursor->ended = 1;
        return NULL;
    }
    const uint8_t *block = cursor->at;
    cursor->at += (size_t)count * size;
    cursor->left -= (size_t)count * size;
    return block;
}

static int64_t take_number(Cursor *cursor, size_t size)
{
    int64_t wide = 0;
    int32_t narrow = 0;
    const uint8_t *block = take_block(cursor, 1, size);
    if (!block)
        return 0;
    if (size == sizeof wide) {
        memcpy(&wide, block, size);
        return wide;
    }
    if (size == 1)
        return *block;
    memcpy(&narrow, block, size);
    return narrow;
}

static int32_t take_int(Cursor *cursor)
{
    return (int32_t)take_number(cursor, sizeof(int32_t));
}

static int refuse(const char *why)
{
    PyErr_SetString(PyExc_ValueError, why);
    return -1;
}

static int refuse_end(void)
{
    return refuse("the file ends too early");
}

static int read_arguments(Cursor *cursor, Model *model)
{
    int32_t magic = take_int(cursor), version = take_int(cursor);
    if (magic != MAGIC || version < OLDEST || version > NEWEST)
        return refuse("it does not begin as one");
    model->columns = take_int(cursor);
    take_block(cursor, 4, sizeof(int32_t)); /* window, epochs, smallest count, negatives: of training */
    model->word_ngrams = take_int(cursor);
    model->loss = take_int(cursor);
    int32_t kind = take_int(cursor);
    model->buckets = take_int(cursor);
    model->shortest = take_int(cursor);
    model->longest = version == OLDEST ? (take_int(cursor), 0) : take_int(cursor);
    take_block(cursor, 1, sizeof(int32_t) + sizeof(double)); /* of training too */
    if (cursor->ended)
        return refuse_end();
    if (kind != SUPERVISED)
        return refuse("it has vectors of words and no labels");
    if (model->loss < HIERARCHICAL_SOFTMAX || model->loss > ONE_VS_ALL)
        return refuse("its loss is none that fastText 0.9 knows");
    if (model->columns < 1 || model->buckets < 0 || (!model->buckets && (model->longest > 0 || model->word_ngrams > 1)))
        return refuse("its sizes are none of a model");
    return 0;
}

/* One entry of the dictionary, which is to be of a type. */
static int read_entry(Cursor *cursor, Word *word, int type, int64_t *count)
{
    const uint8_t *end = memchr(cursor->at, 0, cursor->left);
    if (!end)
        return refuse_end();
    if (end - cursor->at > INT32_MAX)
        return refuse("its dictionary is none");
    word->length = (int32_t)(end - cursor->at);
    word->name = take_block(cursor, word->length + 1, 1);
    *count = take_number(cursor, sizeof *count);
    int64_t own_type = take_number(cursor, 1);
    if (cursor->ended)
        return refuse_end();
    return own_type != type || *count < 0 ? refuse("its dictionary is none") : 0;
}

/* Huffman's tree over the labels by their counts, as fastText builds it from labels that are sorted. */
static int build_tree(Model *model, const int64_t *label_counts)
{
    int32_t labels = model->labels, leaf = labels - 1, node = labels, nodes = 2 * labels - 1;
    uint64_t *counts = PyMem_Calloc((size_t)nodes, sizeof *counts);
    model->tree = PyMem_Calloc((size_t)nodes, sizeof *model->tree);
    if (!counts || !model->tree) {
        PyMem_Free(counts);
        PyErr_NoMemory();
        return -1;
    }
    for (int32_t i = 0; i < labels; i++)
        counts[i] = (uint64_t)label_counts[i];
    for (int32_t i = labels; i < nodes; i++) {
        int32_t children[2];
        for (int j = 0; j < 2; j++) {
            /* A node that is not made yet is never a child, whatever the counts. */
            int takes_leaf = leaf >= 0 && (node >= i || counts[leaf] < counts[node]);
            children[j] = takes_leaf ? leaf-- : node++;
        }
        model->tree[i] = (Node){children[0], children[1]};
        counts[i] = counts[children[0]] + counts[children[1]];
    }
    PyMem_Free(counts);
    return 0;
}

static int read_pruning(Cursor *cursor, Model *model, int64_t count)
{
    const uint8_t *pairs = take_block(cursor, count, 2 * sizeof(int32_t));
    if (!pairs)
        return refuse_end();
    size_t size = 16;
    while (size < 2 * (size_t)count)
        size *= 2;
    Pruning *pruning = model->pruning = PyMem_Calloc(1, sizeof *pruning);
    if (!pruning || !(pruning->slots = PyMem_Calloc(size, sizeof *pruning->slots)) || !(pruning->filter = PyMem_Calloc(size, 1))) {
        PyErr_NoMemory();
        return -1;
    }
    pruning->mask = size - 1;
    for (int64_t i = 0; i < count; i++) {
        int32_t pair[2]; /* a bucket, and its row behind those of the words */
        memcpy(pair, pairs + (size_t)i * sizeof pair, sizeof pair);
        uint32_t bucket = (uint32_t)pair[0];
        if (pair[1] < 0)
            return refuse("its words have more vectors than there are");
        *kept_at(pruning, bucket) = (Kept){bucket, (uint32_t)pair[1] + 1};
        pruning->filter[(bucket >> 3) & pruning->mask] |= (uint8_t)(1 << (bucket & 7));
    }
    return 0;
}

static int read_dictionary(Cursor *cursor, Model *model)
{
    int32_t size = take_int(cursor);
    model->words = take_int(cursor);
    model->labels = take_int(cursor);
    take_number(cursor, sizeof(int64_t)); /* tokens that it was trained on */
    int64_t pruned = take_number(cursor, sizeof(int64_t));
    if (cursor->ended || size < 0 || (size_t)size > cursor->left / SHORTEST_ENTRY)
        return refuse_end();
    if (model->words < 0 || model->labels < 1 || model->labels > INT32_MAX / 2 || (int64_t)model->words + model->labels != size)
        return refuse("its dictionary is none");
    for (model->mask = 15; model->mask < 2 * (size_t)size;)
        model->mask = 2 * model->mask + 1;
    model->names = PyMem_Calloc((size_t)size, sizeof *model->names);
    model->places = PyMem_Calloc(model->mask + 1, sizeof *model->places);
    int64_t *counts = PyMem_Calloc((size_t)model->labels, sizeof *counts), count;
    int failed = !model->names || !model->places || !counts;
    if (failed)
        PyErr_NoMemory();
    for (int32_t i = 0; !failed && i < size; i++) {
        Word *word = &model->names[i];
        failed = read_entry(cursor, word, i < model->words ? WORD_ENTRY : LABEL_ENTRY, &count);
        if (failed)
            break;
        *place_of(model, word->name, (size_t)word->length, fnv_of(word->name, (size_t)word->length)) = (uint32_t)i + 1;
        if (i >= model->words)
            counts[i - model->words] = count;
    }
    if (!failed && model->loss == HIERARCHICAL_SOFTMAX)
        failed = build_tree(model, counts);
    PyMem_Free(counts);
    if (failed)
        return -1;
    return pruned < 0 ? 0 : read_pruning(cursor, model, pruned);
}

static int read_matrix(Cursor *cursor, Matrix *matrix, int quantised, int32_t columns)
{
    int has_norms = quantised && take_number(cursor, 1);
    matrix->rows = take_number(cursor, sizeof(int64_t));
    int64_t own_columns = take_number(cursor, sizeof(int64_t));
    if (cursor->ended)
        return refuse_end();
    if (matrix->rows < 1 || own_columns != columns)
        return refuse("a matrix has another shape than the model");
    if (!quantised) {
        matrix->values = take_block(cursor, matrix->rows, (size_t)columns * sizeof(float));
        return matrix->values ? 0 : refuse_end();
    }
    int32_t codes = take_int(cursor);
    matrix->codes = take_block(cursor, codes, 1);
    int32_t quantised_columns = take_int(cursor);
    matrix->parts = take_int(cursor);
    matrix->width = take_int(cursor);
    matrix->last_width = take_int(cursor);
    matrix->centroids = take_block(cursor, columns, CENTROIDS * sizeof(float));
    if (cursor->ended)
        return refuse_end();
    if (quantised_columns != columns || matrix->parts < 1 || matrix->width < 1 || matrix->last_width < 1 || matrix->last_width > matrix->width ||
        (int64_t)(matrix->parts - 1) * matrix->width + matrix->last_width != columns || codes % matrix->parts || codes / matrix->parts != matrix->rows)
        return refuse("a quantised matrix has another shape than the model");
    if (has_norms) {
        matrix->norms = take_block(cursor, matrix->rows, 1);
        for (int i = 0; i < 4; i++) /* columns, parts, width and last width of a norm */
            if (take_int(cursor) != 1)
                return cursor->ended ? refuse_end() : refuse("a norm is one number");
        matrix->norm_centroids = take_block(cursor, 1, CENTROIDS * sizeof(float));
    }
    return cursor->ended ? refuse_end() : 0;
}

/* Every row that a word or a bucket names must be there. */
static int check_rows(const Model *model)
{
    int64_t buckets = model->input.rows - model->words;
    if (buckets < 0 || (!model->pruning && (model->longest > 0 || model->word_ngrams > 1) && buckets < model->buckets))
        return refuse("its words have more vectors than there are");
    for (size_t at = 0; model->pruning && at <= model->pruning->mask; at++)
        if (model->pruning->slots[at].row > buckets)
            return refuse("its words have more vectors than there are");
    if (model->output.rows != model->labels)
        return refuse("it has another number of outputs than of labels");
    return 0;
}

static int read_model(Model *model)
{
    Cursor cursor = {model->file.buf, (size_t)model->file.len, 0};
    if (read_arguments(&cursor, model) || read_dictionary(&cursor, model))
        return -1;
    int quantised = (int)take_number(&cursor, 1);
    if (cursor.ended)
        return refuse_end();
    if (model->pruning && !quantised)
        return refuse("it is pruned and not quantised");
    if (read_matrix(&cursor, &model->input, quantised, model->columns))
        return -1;
    int output_quantised = (int)take_number(&cursor, 1);
    if (read_matrix(&cursor, &model->output, quantised && output_quantised, model->columns))
        return -1;
    return check_rows(model);
}

static void close_model(PyObject *object)
{
    Model *model = PyCapsule_GetPointer(object, CAPSULE);
    PyMem_Free(model->names);
    PyMem_Free(model->places);
    PyMem_Free(model->tree);
    if (model->pruning) {
        PyMem_Free(model->pruning->slots);
        PyMem_Free(model->pruning->filter);
        PyMem_Free(model->pruning);
    }
    if (model->file.obj)
        PyBuffer_Release(&model->file);
    PyMem_Free(model);
}

Model *model_of(PyObject *object)
{
    return PyCapsule_GetPointer(object, CAPSULE);
}

PyObject *fasttext_open(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *file;
    if (!PyArg_ParseTuple(arguments, "O", &file))
        return NULL;
    Model *model = PyMem_Calloc(1, sizeof *model);
    if (!model)
        return PyErr_NoMemory();
    PyObject *object = PyCapsule_New(model, CAPSULE, close_model);
    if (!object)
        PyMem_Free(model);
    else if (PyObject_GetBuffer(file, &model->file, PyBUF_SIMPLE) || read_model(model))
        Py_CLEAR(object);
    return object;
}

PyObject *fasttext_labels(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *object;
    const Model *model;
    if (!PyArg_ParseTuple(arguments, "O", &object) || !(model = model_of(object)))
        return NULL;
    PyObject *labels = PyList_New(0);
    for (int32_t i = model->words; labels && i < model->words + model->labels; i++)
        if (append_new(labels, PyUnicode_DecodeUTF8((const char *)model->names[i].name, model->names[i].length, "replace")))
            Py_CLEAR(labels);
    return labels;
}
