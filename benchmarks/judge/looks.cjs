// Apparent age and probability of male for benchmarks/apparent.py: node looks.cjs DIR < requests > answers
//
// DIR holds node_modules with @vladmandic/face-api 1.7.15, @tensorflow/tfjs and @tensorflow/tfjs-backend-wasm. A request is a line
// of JSON, {"file", "width", "height"} of raw RGB bytes; its answer is a line {"age": years, "male": 0..1}, or {"age": null} where
// no face is found.
const fs = require("fs");
const path = require("path");
const readline = require("readline");

const folder = path.resolve(process.argv[2]);
const load = (name) => require(require.resolve(name, { paths: [folder] }));

async function main() {
  load("@tensorflow/tfjs");
  const wasm = load("@tensorflow/tfjs-backend-wasm");
  wasm.setWasmPaths(path.join(folder, "node_modules/@tensorflow/tfjs-backend-wasm/dist/"));
  const api = load("@vladmandic/face-api/dist/face-api.node-wasm.js");
  if (wasm.setThreadsCount) wasm.setThreadsCount(1);
  await api.tf.setBackend("wasm");
  await api.tf.ready();
  const models = path.join(folder, "node_modules/@vladmandic/face-api/model");
  for (const net of [api.nets.ssdMobilenetv1, api.nets.faceLandmark68Net, api.nets.ageGenderNet]) {
    await net.loadFromDisk(models);
  }
  const options = new api.SsdMobilenetv1Options({ minConfidence: 0.2 });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    if (!line.trim()) continue;
    const { file, width, height } = JSON.parse(line);
    const image = api.tf.tensor3d(new Uint8Array(fs.readFileSync(file)), [height, width, 3], "int32");
    const face = await api.detectSingleFace(image, options).withFaceLandmarks().withAgeAndGender();
    image.dispose();
    const male = face && (face.gender === "male" ? face.genderProbability : 1 - face.genderProbability);
    process.stdout.write(JSON.stringify(face ? { age: face.age, male } : { age: null, male: null }) + "\n");
  }
}

main();
