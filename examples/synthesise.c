/* A mel to audio in C, with ONNX Runtime and hnmask-22k.onnx (80 bands, 256 samples a frame). docs/export.md describes
   the inputs. Use a session of one thread with ORT_LOGGING_LEVEL_ERROR. */
#include <stdio.h>
#include <stdlib.h>

#include "onnxruntime_c_api.h"

static const OrtApi *ort; /* = OrtGetApiBase()->GetApi(ORT_API_VERSION) */

static void check(OrtStatus *status) {
  if (status == NULL) return;
  fprintf(stderr, "%s\n", ort->GetErrorMessage(status));
  exit(1);
}

/* mel: 80 rows of frames floats; f0: frames floats, all -1; noise: 256 * frames floats. Returns 256 * frames floats,
   which belong to *audio: release it with ort->ReleaseValue. */
float *synthesise(OrtSession *session, int64_t frames, float *mel, float *f0, float *noise, OrtValue **audio) {
  const char *inputs[] = {"mel", "f0", "noise", "phase"}, *outputs[] = {"audio"};
  int64_t shapes[4][3] = {{1, 80, frames}, {1, 1, frames}, {1, 1, 256 * frames}, {1, 1, 1}};
  double phase = 0; /* the only float64 */
  void *data[] = {mel, f0, noise, &phase};
  OrtValue *values[4];
  OrtMemoryInfo *memory;
  float *samples;
  check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  for (int i = 0; i < 4; i++) {
    size_t bytes = shapes[i][1] * shapes[i][2] * (i == 3 ? sizeof(double) : sizeof(float));
    check(ort->CreateTensorWithDataAsOrtValue(memory, data[i], bytes, shapes[i], 3,
        i == 3 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &values[i]));
  }
  *audio = NULL; /* Run makes it */
  check(ort->Run(session, NULL, inputs, (const OrtValue *const *)values, 4, outputs, 1, audio));
  check(ort->GetTensorMutableData(*audio, (void **)&samples));
  for (int i = 0; i < 4; i++) ort->ReleaseValue(values[i]);
  ort->ReleaseMemoryInfo(memory);
  return samples;
}
