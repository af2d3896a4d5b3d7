// SPDX-License-Identifier: MIT
// The code of the stb libraries is in their headers; it is compiled here once, without warnings that are not ours. Stb.h says which formats.
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_RESIZE_IMPLEMENTATION
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include "Stb.h"
