/* One crop of a JPEG as an RGB square. Rows below the crop are not read, those above it are entropy-decoded only, Y, Cb
 * and Cr are resized each at its own resolution, and only the square's pixels are converted.
 *
 * It calls the libjpeg-turbo (libjpeg 6.2 interface) whose path it is given and is linked to no libjpeg. What it does
 * not read, or finds fault with, is left to the caller by a code other than 0: it never guesses. */
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "planes.h"
#include <jpeglib.h>

enum { OK = RESIZED, NO_MEMORY = RESIZE_NO_MEMORY, DAMAGED = 2, UNSUPPORTED = RESIZE_TOO_MUCH, BAD_ARGUMENT = 4 };
/* Larger buffers, which only very large images need, are not kept. */
enum { KEPT_BYTES = 8 << 20, MOST_ROWS = 4 * 16 };

/* The functions of one libjpeg. */
typedef struct {
    struct jpeg_error_mgr *(*std_error)(struct jpeg_error_mgr *);
    void (*create)(j_decompress_ptr, int, size_t);
    void (*destroy)(j_decompress_ptr);
    void (*source)(j_decompress_ptr, const unsigned char *, unsigned long);
    int (*header)(j_decompress_ptr, boolean);
    boolean (*start)(j_decompress_ptr);
    boolean (*complete)(j_decompress_ptr);
    JDIMENSION (*raw)(j_decompress_ptr, JSAMPIMAGE, JDIMENSION);
} library;

static int bind_all(void *handle, library *lib) {
#define BIND(field, name) \
    if (!(*(void **)&lib->field = dlsym(handle, name))) return 0
    BIND(std_error, "jpeg_std_error");
    BIND(create, "jpeg_CreateDecompress");
    BIND(destroy, "jpeg_destroy_decompress");
    BIND(source, "jpeg_mem_src");
    BIND(header, "jpeg_read_header");
    BIND(start, "jpeg_start_decompress");
    BIND(complete, "jpeg_input_complete");
    BIND(raw, "jpeg_read_raw_data");
    return 1;
}

/* A libjpeg, opened for good; NULL when it cannot be opened or lacks a function. */
library *jpeg_planes_library(const char *path) {
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    library *lib = handle ? calloc(1, sizeof *lib) : NULL;
    if (!lib || bind_all(handle, lib)) return lib;
    free(lib);
    return NULL;
}

/* One thread's. libjpeg's own object is made anew for every image: its tables outlive an image, and one that lacks its
 * own would be decoded with those of whatever came before. */
typedef struct {
    struct jpeg_decompress_struct image;
    struct jpeg_error_mgr errors;
    jmp_buf escape;
    const library *lib;
    int open;
    const uint8_t *end; /* of the data */
    plane planes[MOST_PLANES];
    int left[MOST_PLANES], top[MOST_PLANES]; /* of the planes within their components */
    int first_row, end_row;                  /* the rows of MCUs that the crop needs: from, and up to without */
    uint8_t *samples[MOST_PLANES];           /* those rows of every component */
    buffer memory;
    resizer resize;
} decoder;

static void on_error(j_common_ptr image) { longjmp(((decoder *)image->client_data)->escape, 1); }

static void on_message(j_common_ptr image, int level) {
    if (level < 0) image->err->num_warnings++;
}

decoder *jpeg_planes_new(const library *lib) {
    decoder *d = calloc(1, sizeof *d);
    if (d) d->lib = lib;
    return d;
}

static void close_image(decoder *d) {
    if (d->open) d->lib->destroy(&d->image);
    d->open = 0;
    trim(&d->memory, KEPT_BYTES);
}

void jpeg_planes_free(decoder *d) {
    if (!d) return;
    close_image(d);
    buffer *all[] = {&d->memory, &d->resize.filters, &d->resize.sums, &d->resize.rows, &d->resize.levels,
                     &d->resize.pixels};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]->memory);
    free(d);
}

/* Reads the header. The data must stay where they are until the crop is decoded. */
int jpeg_planes_open(decoder *d, const uint8_t *data, size_t length, int *width, int *height) {
    close_image(d);
    memset(&d->image, 0, sizeof d->image);
    d->image.err = d->lib->std_error(&d->errors);
    d->image.client_data = d;
    d->errors.error_exit = on_error;
    d->errors.emit_message = on_message;
    if (setjmp(d->escape)) {
        close_image(d);
        return DAMAGED;
    }
    d->open = 1;
    d->lib->create(&d->image, JPEG_LIB_VERSION, sizeof d->image);
    d->lib->source(&d->image, data, length);
    d->lib->header(&d->image, TRUE);
    d->end = data + length;
    *width = (int)d->image.image_width;
    *height = (int)d->image.image_height;
    J_COLOR_SPACE space = d->image.jpeg_color_space;
    int readable = (space == JCS_YCbCr && d->image.num_components == 3) || space == JCS_GRAYSCALE;
    if (readable && d->image.data_precision == 8) return OK;
    close_image(d);
    return UNSUPPORTED;
}

static int rows_of(const jpeg_component_info *c) { return c->v_samp_factor * c->DCT_scaled_size; }

/* Where the box (left, top, right, bottom in pixels of the full image) lies in component c. */
static void place_box(decoder *d, int c, const double box[4]) {
    const jpeg_component_info *info = d->image.comp_info + c;
    double across = info->h_samp_factor * info->DCT_scaled_size / (d->image.max_h_samp_factor * 8.0);
    double down = rows_of(info) / (d->image.max_v_samp_factor * 8.0);
    int right = (int)fmin(ceil(box[2] * across), info->downsampled_width);
    int bottom = (int)fmin(ceil(box[3] * down), info->downsampled_height);
    int left = (int)fmin(box[0] * across, right - 1), top = (int)fmin(box[1] * down, bottom - 1);
    d->left[c] = left;
    d->top[c] = top;
    d->planes[c] = (plane){
        .stride = (size_t)(info->width_in_blocks + info->h_samp_factor) * info->DCT_scaled_size,
        .width = right - left,
        .height = bottom - top,
        .left = box[0] * across - left,
        .top = box[1] * down - top,
        .right = box[2] * across - left,
        .bottom = box[3] * down - top,
    };
    int first = top / rows_of(info), end = (bottom - 1) / rows_of(info) + 1;
    if (c == 0 || first < d->first_row) d->first_row = first;
    if (c == 0 || end > d->end_row) d->end_row = end;
}

static int place_samples(decoder *d) {
    size_t bytes = 0, rows = d->end_row - d->first_row, offsets[MOST_PLANES];
    for (int c = 0; c < d->image.num_components; c++) {
        offsets[c] = bytes;
        bytes += d->planes[c].stride * rows * rows_of(d->image.comp_info + c);
    }
    uint8_t *memory = reserve(&d->memory, bytes);
    if (!memory) return NO_MEMORY;
    for (int c = 0; c < d->image.num_components; c++) {
        plane *p = d->planes + c;
        size_t above = d->top[c] - (size_t)d->first_row * rows_of(d->image.comp_info + c);
        d->samples[c] = memory + offsets[c];
        p->samples = d->samples[c] + above * p->stride + d->left[c];
    }
    return OK;
}

/* Every row of MCUs down to the crop's last; the inverse DCT only from the crop's first. */
static void read_rows(decoder *d) {
    JSAMPROW rows[MOST_PLANES][MOST_ROWS];
    JSAMPARRAY image[MOST_PLANES] = {rows[0], rows[1], rows[2]};
    for (int row = 0; row < d->end_row; row++) {
        int from = row > d->first_row ? row - d->first_row : 0;
        for (int c = 0; c < d->image.num_components; c++) {
            jpeg_component_info *info = d->image.comp_info + c;
            info->component_needed = row >= d->first_row;
            for (int i = 0; i < rows_of(info); i++)
                rows[c][i] = d->samples[c] + ((size_t)from * rows_of(info) + i) * d->planes[c].stride;
        }
        d->lib->raw(&d->image, image, d->image.max_v_samp_factor * d->image.min_DCT_scaled_size);
    }
}

/* Whether the data end as a JPEG does, behind what was read. */
static int is_complete(decoder *d) {
    enum { END_OF_IMAGE = 0xD9 };
    if (d->lib->complete(&d->image) || d->image.unread_marker == END_OF_IMAGE) return 1;
    for (const uint8_t *p = d->end - 1; p > d->image.src->next_input_byte; p--)
        if (p[-1] == 0xFF && p[0] == END_OF_IMAGE) return 1;
    return 0;
}

static int decode(decoder *d, const double box[4], int reduction, int size, int flip, uint8_t *rgb) {
    struct jpeg_decompress_struct *image = &d->image;
    image->scale_num = 1;
    image->scale_denom = reduction;
    image->raw_data_out = TRUE;
    image->out_color_space = image->jpeg_color_space;
    image->dct_method = JDCT_ISLOW;
    d->lib->start(image);
    for (int c = 0; c < image->num_components; c++) place_box(d, c, box);
    if (place_samples(d) != OK) return NO_MEMORY;
    read_rows(d);
    if (image->err->num_warnings || !is_complete(d)) return DAMAGED;
    return resize_to_rgb(&d->resize, d->planes, image->num_components, size, flip, rgb);
}

/* The box (left, top, right, bottom in pixels, fractions allowed) of the image opened, as (size, size, 3).
 * reduction: 1, 2, 4 or 8, by which the inverse DCT reduces the image before it is resized. */
int jpeg_planes_decode(decoder *d, double left, double top, double right, double bottom, int reduction, int size,
                       int flip, uint8_t *rgb) {
    double box[4] = {left, top, fmin(right, d->image.image_width), fmin(bottom, d->image.image_height)};
    if (!d->open || size < 1 || !(0 <= left && left < box[2] && 0 <= top && top < box[3])) {
        close_image(d);
        return BAD_ARGUMENT;
    }
    if (setjmp(d->escape)) {
        close_image(d);
        return DAMAGED;
    }
    int result = decode(d, box, reduction, size, flip, rgb);
    close_image(d);
    return result;
}
