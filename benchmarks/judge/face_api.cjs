// What the judges share: DIR holds node_modules with @vladmandic/face-api 1.7.15, @tensorflow/tfjs and
// @tensorflow/tfjs-backend-wasm. A request is a line of JSON, {"file", "width", "height"} of raw RGB bytes; each gets a line of JSON.
const fs = require("fs");
const path = require("path");
const readline = require("readline");

const folder = path.resolve(process.argv[2]);
const load = (name) => require(require.resolve(name, { paths: [folder] }));

// net: name of the network beside detector and landmarks; look: its step of face-api's chain; answer: face or undefined -> object.
async function serve(net, look, answer) {
  load("@tensorflow/tfjs");
  const wasm = load("@tensorflow/tfjs-backend-wasm");
  wasm.setWasmPaths(path.join(folder, "node_modules/@tensorflow/tfjs-backend-wasm/dist/"));
  const api = load("@vladmandic/face-api/dist/face-api.node-wasm.js");
  await api.tf.setBackend("wasm");
  await api.tf.ready();
  const models = path.join(folder, "node_modules/@vladmandic/face-api/model");
  for (const part of [api.nets.ssdMobilenetv1, api.nets.faceLandmark68Net, api.nets[net]]) {
    await part.loadFromDisk(models);
  }
  const options = new api.SsdMobilenetv1Options({ minConfidence: 0.2 });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    if (!line.trim()) continue;
    const { file, width, height } = JSON.parse(line);
    const image = api.tf.tensor3d(new Uint8Array(fs.readFileSync(file)), [height, width, 3], "int32");
    const face = await look(api.detectSingleFace(image, options).withFaceLandmarks());
    image.dispose();
    process.stdout.write(JSON.stringify(answer(face)) + "\n");
  }
}

module.exports = { serve };
