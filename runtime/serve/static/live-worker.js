// The live socket: camera frames out, results in, both at most one at a time. Runs in a worker, so that neither a
// busy page nor a hidden tab slows it down.
import {
  HEAD, SOUND, JPEG, I420, NV12, H264, KEY, FULL_RANGE, BT709, STRIP, clock, writeHead, readHead, paintStrip, readStrip,
} from "./protocol.js";

const RETRY_MS = [100, 250, 500, 1000];
const ACK_LATE_MS = 1500; // then the next frame goes anyway, and twice as late the one after: no queue in a line that stands still
const ACK_LATEST_MS = 96000;
const PROBES = 3; // small frames first: an address of this machine may be a tunnel to another
const PROBE_MS = 80;
const STUBBORN_MS = 30000;
const TRIAL_MS = 5000; // a machine may be busy
const LATE_MS = 300; // of a transfer, from which on the line is too thin for what is sent
const CROWDED_MS = 60; // of a transfer: after a step up, that is one too many
const MOST_PATIENCE_MS = 120000;
const CODEC = "avc1.42E01F"; // H.264 baseline
// What to send when the line is thin: bits/s of H.264; quality and scale of JPEG.
const RUNGS = [
  { bitrate: 4e6, quality: 0.85, scale: 1 }, { bitrate: 2.5e6, quality: 0.75, scale: 1 },
  { bitrate: 1.2e6, quality: 0.6, scale: 0.75 }, { bitrate: 5e5, quality: 0.5, scale: 0.5 },
  { bitrate: 2.5e5, quality: 0.4, scale: 0.375 },
];

let socket = null, address = "", tries = 0, stopped = false;
let wanted = { before: false, mesh: false, results: true };
let way = "auto"; // or "raw", "h264", "jpeg"
let hasCamera = false, seat = false, rung = 0, thin = false, loopback = false;
let planes = true; // the camera's frames can be copied without an encoder
let probes = 0; // frames of the present camera that were acknowledged
let encoderWorks = false, decoderWorks = false;

// --- out ---
let reader = null, newest = null, number = 0, flying = null, patienceForAck = ACK_LATE_MS;
let buffer = new ArrayBuffer(0), encoder = null, encoderSize = "", needKey = true;
let canvas = null, context = null, busy = false;
const captured = new Map(); // number -> when
let offset = Infinity, offsetAge = 0;
const sent = { count: 0, skipped: 0 };

// --- in ---
let after = null, before = null, decoder = null, decoderReady = false;
const waiting = new Map(); // number -> head, in the H.264 decoder
let lastAge = null, drawn = 0;
const transfers = [], ages = [];
let climb = null; // what was sent before a step up, and how old pictures were then
let trial = null; // what was sent before a step down, and how long that took
let stubbornUntil = 0; // smaller pictures did not arrive sooner: it is the processor that is busy
let calmSince = 0, patience = 6000;

onmessage = ({ data }) => handlers[data.type]?.(data);

const handlers = {
  start(data) {
    after = data.after.getContext("2d", { alpha: false });
    before = data.before.getContext("2d", { alpha: false });
    address = data.address;
    loopback = data.loopback;
    connect();
    tryH264().then((works) => { encoderWorks = decoderWorks = works; sayWant(); }, () => { /* not in this browser */ });
    setInterval(adapt, 500);
  },
  readable({ readable }) {
    stopReading();
    hasCamera = true;
    offset = Infinity;
    pump(readable.getReader());
    say({ type: "camera" });
  },
  image({ frame, time }) { // from a browser without MediaStreamTrackProcessor
    if (newest) { newest.frame.close(); sent.skipped++; }
    newest = { frame, time };
    trySend();
  },
  images() { stopReading(); hasCamera = true; say({ type: "camera" }); },
  leave() { stopReading(); hasCamera = seat = false; say({ type: "leave" }); },
  sound({ samples, rate, time }) {
    if (socket?.readyState !== 1 || !seat || socket.bufferedAmount > 1e6) return;
    const message = new ArrayBuffer(HEAD + samples.byteLength);
    writeHead(message, 0, 0, 0, time, rate & 0xffff, rate >>> 16, 0);
    new DataView(message).setUint8(0, SOUND);
    new Uint8Array(message, HEAD).set(new Uint8Array(samples));
    socket.send(message);
  },
  rtc({ writable, readable }) { // WebRTC's two ends: frames go into one and come out of the other
    stopRtc();
    rtc = { writer: writable.getWriter(), reader: readable.getReader() };
    pumpResults(rtc);
    sayWant();
  },
  mirror(data) { mirrored = data.on; },
  noRtc() { stopRtc(); sayWant(); if (hasCamera) say({ type: "camera" }); },
  seen({ number: low, time }) { // somebody else showed a frame of ours: its age counts, too
    const began = captured.get(low);
    if (began !== undefined) postMessage({ type: "seen", age: time - began });
  },
  want({ want }) { wanted = { ...wanted, ...want }; sayWant(); },
  way(data) { way = data.way; rung = probes = 0; thin = false; needKey = true; sayWant(); },
};

function connect() {
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    tries = 0;
    flying = null;
    patienceForAck = ACK_LATE_MS;
    probes = 0;
    seat = false;
    needKey = true;
    decoderReady = false;
    postMessage({ type: "online", online: true });
    sayWant();
    if (hasCamera) say({ type: "camera" });
  };
  socket.onmessage = ({ data }) => (typeof data === "string" ? heard(JSON.parse(data)) : received(data));
  socket.onclose = ({ code, reason }) => {
    postMessage({ type: "online", online: false, code, reason });
    if (!stopped) setTimeout(connect, RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)]);
  };
}

const say = (message) => { if (socket?.readyState === 1) socket.send(JSON.stringify(message)); };

function upCodec() {
  if (way !== "auto") return way === "h264" && !encoderWorks ? "jpeg" : way;
  if (loopback && !thin && planes) return probes < PROBES ? "jpeg" : "raw";
  return encoderWorks ? "h264" : "jpeg";
}

function sayWant() {
  const up = upCodec();
  if (rtc) {
    say({ type: "want", want: { ...wanted, results: false } });
    postMessage({ type: "way", up: "webrtc", down: "webrtc", rung });
    return;
  }
  const { bitrate, quality } = RUNGS[rung];
  const codec = decoderWorks && (up === "h264" || (thin && up !== "jpeg")) ? "h264" : "jpeg";
  say({ type: "want", want: { ...wanted, codec, bitrate, quality: Math.round(quality * 100) } });
  postMessage({ type: "way", up, down: codec, rung });
}

function heard(message) {
  if (message.type === "ack") {
    if (flying && message.number === flying.number) {
      patienceForAck = ACK_LATE_MS;
      arrived(Math.max(clock() - flying.at - message.waited_ms, 1), flying.size);
      flying = null;
      trySend();
    }
  } else if (message.type === "seat") {
    seat = message.yours;
    flying = null;
    needKey = true;
    postMessage(message);
    trySend();
  } else if (message.type === "key") {
    needKey = true;
  } else if (message.type === "error") {
    flying = null;
    postMessage(message);
    trySend();
  } else {
    postMessage(message);
  }
}

/** A frame of so many bytes took so many ms to the server and its acknowledgement back. */
function arrived(transfer, size) {
  transfers.push(transfer);
  if (transfers.length > 12) transfers.shift();
  if (way !== "auto" || rtc) return;
  probes++;
  if (loopback && !thin && probes === PROBES) {
    if (median(transfers) > PROBE_MS) becomeThin(transfer, size);
    else sayWant();
  }
  else if (transfer > LATE_MS && probes > 1) becomeThin(transfer, size);
}

/** The line carried `size` bytes in `transfer` ms: take what needs less than two thirds of that. */
function becomeThin(transfer, size) {
  if (clock() < stubbornUntil) return;
  const bits = (size * 8000) / transfer, before = rung;
  const fits = RUNGS.findIndex(({ bitrate }) => bitrate < bits * 0.66);
  const tried = { transfer: median(transfers), rung, thin };
  if (loopback && !thin) thin = true;
  else if (encoderWorks || rung === RUNGS.length - 1) { if (fits === before || fits === -1 && before === RUNGS.length - 1) return; }
  rung = encoderWorks ? (fits === -1 ? RUNGS.length - 1 : fits) : Math.min(before + 1, RUNGS.length - 1);
  patience = Math.min(patience * 1.5, MOST_PATIENCE_MS);
  restart(tried);
}

/** Send the other way from now on. */
function restart(tried = null) {
  trial = tried;
  climb = null;
  transfers.length = ages.length = 0;
  calmSince = 0;
  needKey = true;
  sayWant();
}

function stopReading() {
  reader?.cancel().catch(() => {});
  reader = null;
  newest?.frame.close();
  newest = null;
}

async function pump(mine) {
  reader = mine;
  try {
    while (reader === mine) {
      const { value, done } = await mine.read();
      if (done) break;
      if (newest) { newest.frame.close(); sent.skipped++; }
      newest = { frame: value, time: capturedAt(value) };
      trySend();
    }
  } catch { /* the track ended; the page hears of that itself */ }
}

/** When a frame was captured, on our clock. Its own timestamp has another origin: the fastest delivery of the last
 * seconds tells the distance between the two. */
function capturedAt(frame) {
  const now = clock(), stamp = frame.timestamp / 1000;
  const known = frame.metadata?.().captureTime; // since the page began, where the browser tells
  if (known) return Math.min(performance.timeOrigin + known, now);
  if (now - stamp < offset || now - offsetAge > 10000) { offset = now - stamp; offsetAge = now; }
  return Math.min(stamp + offset, now);
}

let rtc = null;
function stopRtc() {
  rtc?.writer.close().catch(() => {});
  rtc?.reader.cancel().catch(() => {});
  rtc = null;
}

async function pumpResults(mine) {
  try {
    while (rtc === mine) {
      const { value, done } = await mine.reader.read();
      if (done) break;
      const width = value.displayWidth, height = value.displayHeight;
      const head = { number: 0, width, height, strip: STRIP, parts: [[], [], []], meta: { state: "live", faces: 0 } };
      await show(head, value);
    }
  } catch { /* the connection ended; the page hears of that itself */ }
}

/** With WebRTC the browser paces and encodes. */
async function sendRtc({ frame, time }) {
  busy = true;
  number = (number + 1) >>> 0;
  captured.set(number & 0xffff, time);
  if (captured.size > 240) captured.delete(captured.keys().next().value);
  onCanvas(frame, 1);
  const picture = new VideoFrame(canvas, { timestamp: frame.timestamp ?? Math.round(time * 1000) });
  frame.close();
  await rtc.writer.write(picture).catch(() => picture.close());
  busy = false;
}

function trySend() {
  if (rtc && newest && !busy) {
    const next = newest;
    newest = null;
    sendRtc(next);
    return;
  }
  if (!newest || busy || !seat || socket?.readyState !== 1) return;
  if (flying && clock() - flying.at < patienceForAck) return;
  if (socket.bufferedAmount > 0) return;
  const { frame, time } = newest;
  newest = null;
  busy = true;
  number = (number + 1) >>> 0;
  captured.set(number & 0xffff, time);
  if (captured.size > 240) captured.delete(captured.keys().next().value);
  if (flying) patienceForAck = Math.min(2 * patienceForAck, ACK_LATEST_MS);
  flying = { number, at: clock(), size: 0 };
  send(frame, time).catch((error) => { flying = null; postMessage({ type: "error", text: String(error) }); })
    .finally(() => { frame.close(); busy = false; trySend(); });
}

async function send(frame, time) {
  const planar = frame.format === "I420" || frame.format === "NV12";
  if (planes !== planar) { planes = planar; sayWant(); }
  const codec = upCodec();
  if (codec === "raw" && planar) {
    const { width, height, flags } = await packPlanes(frame, time);
    writeHead(buffer, frame.format === "NV12" ? NV12 : I420, flags, number, time, width, height);
    transmit(buffer);
  } else if (codec === "h264" && encoderWorks) {
    await sendH264(frame, time, planar);
  } else {
    await sendJpeg(frame, time);
  }
  sent.count++;
}

/** What happened until now, copying and encoding, says nothing about the line. */
function transmit(message) {
  if (socket?.readyState !== 1) return;
  if (flying) { flying.size = message.byteLength; flying.at = clock(); }
  socket.send(message);
}

/** The frame and its strip as bare planes behind a head, without a detour over a canvas. */
async function packPlanes(frame) {
  const rect = frame.visibleRect, width = rect.width & ~1, rows = rect.height & ~1, height = rows + STRIP;
  const size = HEAD + (width * height * 3) / 2;
  if (buffer.byteLength !== size) buffer = new ArrayBuffer(size);
  const bytes = new Uint8Array(buffer, HEAD), y = width * height, half = width / 2;
  const semi = frame.format === "NV12";
  const layout = semi
    ? [{ offset: 0, stride: width }, { offset: y, stride: width }]
    : [{ offset: 0, stride: width }, { offset: y, stride: half }, { offset: y + (half * height) / 2, stride: half }];
  await frame.copyTo(bytes, { rect: { x: rect.x & ~1, y: rect.y & ~1, width, height: rows }, layout });
  paintStrip(number, width, (x, w, white) => {
    for (let row = rows; row < height; row++) bytes.fill(white ? 235 : 16, row * width + x, row * width + x + w);
  });
  const chroma = semi ? [[y, width]] : [[y, half], [y + (half * height) / 2, half]];
  for (const [at, stride] of chroma) bytes.fill(128, at + (stride * rows) / 2, at + (stride * height) / 2);
  const space = frame.colorSpace;
  const flags = (space.fullRange ? FULL_RANGE : 0) | (space.matrix === "bt709" ? BT709 : 0);
  return { width, height, flags };
}

function onCanvas(frame, scale) {
  const fullWidth = frame.displayWidth ?? frame.width, fullHeight = frame.displayHeight ?? frame.height;
  const width = Math.round(fullWidth * scale) & ~1, rows = Math.round(fullHeight * scale) & ~1, height = rows + STRIP;
  if (!canvas || canvas.width !== width || canvas.height !== height) {
    canvas = new OffscreenCanvas(width, height);
    context = canvas.getContext("2d", { alpha: false });
  }
  context.drawImage(frame, 0, 0, width, rows);
  paintStrip(number, width, (x, w, white) => {
    context.fillStyle = white ? "#fff" : "#000";
    context.fillRect(x, rows, w, STRIP);
  });
  return { width, height };
}

async function sendJpeg(frame, time) {
  const { quality, scale } = RUNGS[rung];
  const { width, height } = onCanvas(frame, scale);
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality });
  const message = new ArrayBuffer(HEAD + blob.size);
  new Uint8Array(message, HEAD).set(new Uint8Array(await blob.arrayBuffer()));
  writeHead(message, JPEG, 0, number, time, width, height);
  transmit(message);
}

const encoderSettings = (width, height) => ({
  codec: CODEC, width, height, bitrate: RUNGS[rung].bitrate, framerate: 30, latencyMode: "realtime",
  avc: { format: "annexb" },
});

/** Does H.264 really come out of the encoder, and a picture of the decoder? Some browsers promise both without having them. */
async function tryH264() {
  if (!(await VideoEncoder.isConfigSupported(encoderSettings(640, 496))).supported) return false;
  if (!(await VideoDecoder.isConfigSupported({ codec: CODEC })).supported) return false;
  const gray = new OffscreenCanvas(640, 496);
  gray.getContext("2d").fillRect(0, 0, 640, 496);
  let coder, reader;
  try {
    return await new Promise((done) => {
      const failed = () => done(false);
      setTimeout(failed, TRIAL_MS);
      reader = new VideoDecoder({ output: (picture) => { picture.close(); done(true); }, error: failed });
      reader.configure({ codec: CODEC, optimizeForLatency: true });
      coder = new VideoEncoder({ output: (chunk) => reader.state === "configured" && reader.decode(chunk), error: failed });
      coder.configure(encoderSettings(640, 496));
      for (let i = 0; i < 3; i++) {
        const picture = new VideoFrame(gray, { timestamp: i * 33333 });
        coder.encode(picture, { keyFrame: i === 0 });
        picture.close();
      }
    });
  } finally {
    for (const one of [coder, reader]) if (one && one.state !== "closed") one.close();
  }
}

async function sendH264(frame, time, planar) {
  const scale = RUNGS[rung].scale;
  let picture, size;
  if (planar && scale === 1) {
    size = await packPlanes(frame);
    const settings = { format: frame.format, codedWidth: size.width, codedHeight: size.height, timestamp: number * 33333, colorSpace: frame.colorSpace };
    picture = new VideoFrame(new Uint8Array(buffer, HEAD), settings);
  } else {
    size = onCanvas(frame, scale);
    picture = new VideoFrame(canvas, { timestamp: number * 33333 });
  }
  const key = `${size.width}x${size.height}@${rung}`;
  if (encoderSize !== key || encoder?.state !== "configured") {
    if (encoder?.state === "configured") encoder.close();
    encoder = new VideoEncoder({ output: encoded, error: (error) => { encoderWorks = false; sayWant(); console.warn(error); } });
    encoder.configure(encoderSettings(size.width, size.height));
    encoderSize = key;
    needKey = true;
  }
  encoded.head = { number, time, ...size };
  encoder.encode(picture, { keyFrame: needKey });
  needKey = false;
  picture.close();
}

function encoded(chunk) {
  const { number: own, time, width, height } = encoded.head;
  const message = new ArrayBuffer(HEAD + chunk.byteLength);
  chunk.copyTo(new Uint8Array(message, HEAD));
  writeHead(message, H264, chunk.type === "key" ? KEY : 0, own, time, width, height);
  transmit(message);
}

let latest = 0; // number of the last result
async function received(data) {
  const head = readHead(data);
  latest = head.number;
  try {
    if (head.codec === H264) {
      decodeH264(head);
      return; // shown when the decoder gives it
    }
    const picture = await decodeJpeg(head.parts[0]);
    await show(head, picture);
  } catch (error) {
    postMessage({ type: "error", text: String(error) });
    say({ type: "ack", number: head.number });
  }
}

async function decodeJpeg(bytes) {
  if (typeof ImageDecoder !== "undefined") {
    const decoder = new ImageDecoder({ type: "image/jpeg", data: bytes });
    try {
      return (await decoder.decode()).image;
    } finally {
      decoder.close();
    }
  }
  return createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
}

function decodeH264(head) {
  if (decoder?.state !== "configured") {
    decoder = new VideoDecoder({
      output: (picture) => {
        const own = waiting.get(picture.timestamp);
        waiting.delete(picture.timestamp);
        if (own) show(own, picture); else picture.close();
      },
      error: () => { decoderReady = false; say({ type: "key" }); say({ type: "ack", number: latest }); },
    });
    decoder.configure({ codec: CODEC, optimizeForLatency: true });
    decoderReady = false;
  }
  const isKey = Boolean(head.flags & KEY);
  if (!decoderReady && !isKey) {
    say({ type: "key" });
    say({ type: "ack", number: head.number });
    return;
  }
  decoderReady = true;
  const stamp = ++decodeH264.stamp;
  waiting.set(stamp, head);
  if (waiting.size > 30) waiting.clear();
  decoder.decode(new EncodedVideoChunk({ type: isKey ? "key" : "delta", timestamp: stamp, data: head.parts[0] }));
}
decodeH264.stamp = 0;

async function show(head, picture) {
  const width = head.width, rows = head.height - head.strip;
  const [, old, mesh] = head.parts;
  let past = null;
  try {
    if (old.length) past = await decodeJpeg(old);
    const read = head.strip ? await readNumber(picture, width, rows) : null;
    draw(after, picture, width, rows);
    if (mirrored && head.meta.badge) turnBack(picture, head.meta.badge);
    if (past) {
      const w = past.displayWidth ?? past.width;
      draw(before, past, w, Math.round((rows * w) / width));
    }
    drawn++;
    if (!rtc) say({ type: "ack", number: head.number, age_ms: lastAge });
    const began = read === null ? null : captured.get(read);
    shownNext = {
      began, number: head.number, width, height: rows, state: head.meta.state, faceState: head.meta.face_state,
      faces: head.meta.faces, mesh: mesh.length ? mesh.slice() : null, past: Boolean(past), dropped: sent.skipped,
    };
    frameAsked ||= requestAnimationFrame(tellShown); // one at a time: a hidden tab gets none
  } finally {
    picture.close();
    past?.close();
  }
}

let mirrored = false;
/** Letters that the page's mirror would turn around are turned around before. */
function turnBack(picture, [x, y, width, height]) {
  after.setTransform(-1, 0, 0, 1, 2 * x + width, 0);
  after.drawImage(picture, x, y, width, height, x, y, width, height);
  after.setTransform(1, 0, 0, 1, 0, 0);
}

let shownNext = null, frameAsked = 0;
/** At the next refresh of the screen the picture is out: that is its age. */
function tellShown() {
  frameAsked = 0;
  const { began, ...shown } = shownNext;
  if (typeof began === "number") {
    lastAge = clock() - began;
    ages.push(lastAge);
    if (ages.length > 15) ages.shift();
  }
  postMessage({ type: "shown", age: typeof began === "number" ? lastAge : null, drawn, ...shown });
}

function draw(target, picture, width, height) {
  const canvas = target.canvas;
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  target.drawImage(picture, 0, 0, width, height, 0, 0, width, height);
}

let rowBuffer = new Uint8Array(0), small = null;
/** What the strip of a picture says. */
async function readNumber(picture, width, rows) {
  const y = (rows + STRIP / 2) & ~1;
  if (picture.copyTo && picture.format) {
    const rect = { x: 0, y, width: width & ~1, height: 2 };
    const size = picture.allocationSize({ rect });
    if (rowBuffer.length < size) rowBuffer = new Uint8Array(size);
    await picture.copyTo(rowBuffer, { rect });
    const step = /^(RGB|BGR)/.test(picture.format) ? 4 : 1;
    return readStrip(width, (x) => rowBuffer[x * step + (step === 4 ? 1 : 0)]);
  }
  small ??= new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  if (small.canvas.width !== width) small.canvas.width = width;
  small.drawImage(picture, 0, y, width, 1, 0, 0, width, 1);
  const pixels = small.getImageData(0, 0, width, 1).data;
  return readStrip(width, (x) => pixels[x * 4 + 1]);
}

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1] ?? 0;

/** Twice a second: a thin line gets smaller pictures, a wide one better ones. */
function adapt() {
  if (flying && clock() - flying.at > patienceForAck) trySend();
  if (way !== "auto" || !seat || transfers.length < 4) return;
  const transfer = median(transfers), age = median(ages);
  if (trial) {
    if (transfers.length < 6) return;
    if (transfer > 0.75 * trial.transfer) {
      ({ rung, thin } = trial);
      stubbornUntil = clock() + STUBBORN_MS;
      restart();
      return;
    }
    trial = null;
  }
  if (climb) {
    if (transfers.length < 12) return;
    const older = ages.length > 7 && age > 1.25 * climb.age + 10;
    if (older || transfer > CROWDED_MS) { // finer pictures are not worth older ones
      ({ rung, thin } = climb);
      patience = Math.min(patience * 2, MOST_PATIENCE_MS);
      restart();
      return;
    }
    climb = null;
  }
  const before = { transfer, rung, thin };
  if (transfer > 120 || (age > 700 && transfer > 30)) {
    if (rung === RUNGS.length - 1 || clock() < stubbornUntil) return;
    if (loopback && !thin) thin = true; else rung++;
    patience = Math.min(patience * 1.5, MOST_PATIENCE_MS);
    restart(before);
    return;
  } else if (transfer < 40 && age < 350 && (rung || thin)) {
    calmSince ||= clock();
    if (clock() - calmSince < patience) return;
    const now = { rung, thin, age };
    if (rung) rung--;
    else thin = false;
    restart();
    climb = now;
    return;
  } else {
    calmSince = 0;
  }
}
