// Descriptors of faces for benchmarks/difference.py: node recognize.cjs DIR < requests > answers
//
// DIR and requests: face_api.cjs. An answer is {"descriptor": 128 numbers or null}: of the face that is found with most confidence.
const { serve } = require("./face_api.cjs");

serve("faceRecognitionNet", (face) => face.withFaceDescriptor(), (face) => ({
  descriptor: face ? Array.from(face.descriptor) : null,
}));
