// SPDX-License-Identifier: MIT
#pragma once

#define STBI_NO_STDIO
#define STBI_NO_HDR
#define STBI_NO_LINEAR
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_ONLY_GIF
#define STBI_ONLY_TGA
#define STBI_ONLY_PNM
#define STBI_WRITE_NO_STDIO

#include <stb_image.h>
#include <stb_image_resize.h>
#include <stb_image_write.h>
