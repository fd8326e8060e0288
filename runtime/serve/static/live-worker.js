// The live socket: camera frames out, results in, both at most one at a time. Runs in a worker, so that neither a
// busy page nor a hidden tab slows it down. What is sent is line.js's choice; outgoing.js packs it, incoming.js draws.
import { HEAD, SOUND, STRIP, clock, writeHead } from "./protocol.js";
import { Line } from "./line.js";
import { Outgoing, isPlanar, tryH264 } from "./outgoing.js";
import { Incoming } from "./incoming.js";

const RETRY_MS = [100, 250, 500, 1000];
const ACK_LATE_MS = 1500; // then the next frame goes anyway, and twice as late the one after: no queue in a line that stands still
const ACK_LATEST_MS = 96000;

let socket = null, address = "", tries = 0, stopped = false;
let wanted = { before: false, mesh: false, results: true };
let hasCamera = false, seat = false, decoderWorks = false;

// --- out ---
let reader = null, newest = null, number = 0, flying = null, patienceForAck = ACK_LATE_MS, busy = false, skipped = 0;
const captured = new Map(); // number -> when
let offset = Infinity, offsetAge = 0;
const line = new Line({ probed: sayWant, changed() { outgoing.askKey(); sayWant(); } });
const outgoing = new Outgoing({
  transmit,
  failed(error) { line.encoderWorks = false; sayWant(); console.warn(error); },
});

// --- in ---
let incoming = null;

onmessage = ({ data }) => handlers[data.type]?.(data);

const handlers = {
  start(data) {
    incoming = new Incoming(data.after.getContext("2d", { alpha: false }), data.before.getContext("2d", { alpha: false }), {
      say,
      shown(head, age) { if (!rtc) say({ type: "ack", number: head.number, age_ms: age }); },
      began: (low) => captured.get(low),
      aged: (age) => line.shown(age),
      skipped: () => skipped,
    });
    address = data.address;
    line.loopback = data.loopback;
    connect();
    tryH264(line.settings.bitrate)
      .then((works) => { line.encoderWorks = decoderWorks = works; sayWant(); }, () => { /* not in this browser */ });
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
    if (newest) { newest.frame.close(); skipped++; }
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
  mirror(data) { incoming.mirrored = data.on; },
  noRtc() { stopRtc(); sayWant(); if (hasCamera) say({ type: "camera" }); },
  seen({ number: low, time }) { // somebody else showed a frame of ours: its age counts, too
    const began = captured.get(low);
    if (began !== undefined) postMessage({ type: "seen", age: time - began });
  },
  want({ want }) { wanted = { ...wanted, ...want }; sayWant(); },
  way(data) { line.choose(data.way); outgoing.askKey(); sayWant(); },
};

function connect() {
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    tries = 0;
    flying = null;
    patienceForAck = ACK_LATE_MS;
    line.probeAgain();
    seat = false;
    outgoing.askKey();
    incoming.reset();
    postMessage({ type: "online", online: true });
    sayWant();
    if (hasCamera) say({ type: "camera" });
  };
  socket.onmessage = ({ data }) => (typeof data === "string" ? heard(JSON.parse(data)) : incoming.received(data));
  socket.onclose = ({ code, reason }) => {
    postMessage({ type: "online", online: false, code, reason });
    if (!stopped) setTimeout(connect, RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)]);
  };
}

function say(message) { if (socket?.readyState === 1) socket.send(JSON.stringify(message)); }

function sayWant() {
  const up = line.codec, { rung } = line;
  if (rtc) {
    say({ type: "want", want: { ...wanted, results: false } });
    postMessage({ type: "way", up: "webrtc", down: "webrtc", rung });
    return;
  }
  const { bitrate, quality } = line.settings;
  const codec = decoderWorks && (up === "h264" || (line.thin && up !== "jpeg")) ? "h264" : "jpeg";
  say({ type: "want", want: { ...wanted, codec, bitrate, quality: Math.round(quality * 100) } });
  postMessage({ type: "way", up, down: codec, rung });
}

function heard(message) {
  if (message.type === "ack") {
    if (flying && message.number === flying.number) {
      patienceForAck = ACK_LATE_MS;
      line.arrived(Math.max(clock() - flying.at - message.waited_ms, 1), flying.size, !rtc);
      flying = null;
      trySend();
    }
  } else if (message.type === "seat") {
    seat = message.yours;
    flying = null;
    outgoing.askKey();
    postMessage(message);
    trySend();
  } else if (message.type === "key") {
    outgoing.askKey();
  } else if (message.type === "error") {
    flying = null;
    postMessage(message);
    trySend();
  } else {
    postMessage(message);
  }
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
      if (newest) { newest.frame.close(); skipped++; }
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
      await incoming.show(head, value);
    }
  } catch { /* the connection ended; the page hears of that itself */ }
}

/** With WebRTC the browser paces and encodes. */
async function sendRtc({ frame, time }) {
  busy = true;
  countFrame(time);
  const { canvas } = outgoing.onCanvas(frame, number, 1);
  const picture = new VideoFrame(canvas, { timestamp: frame.timestamp ?? Math.round(time * 1000) });
  frame.close();
  await rtc.writer.write(picture).catch(() => picture.close());
  busy = false;
}

function countFrame(time) {
  number = (number + 1) >>> 0;
  captured.set(number & 0xffff, time);
  if (captured.size > 240) captured.delete(captured.keys().next().value);
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
  countFrame(time);
  if (flying) patienceForAck = Math.min(2 * patienceForAck, ACK_LATEST_MS);
  flying = { number, at: clock(), size: 0 };
  send(frame, time).catch((error) => { flying = null; postMessage({ type: "error", text: String(error) }); })
    .finally(() => { frame.close(); busy = false; trySend(); });
}

async function send(frame, time) {
  const planar = isPlanar(frame);
  if (line.planes !== planar) { line.planes = planar; sayWant(); }
  const { codec } = line;
  if (codec === "raw" && planar) await outgoing.sendPlanes(frame, number, time);
  else if (codec === "h264" && line.encoderWorks) await outgoing.sendH264(frame, number, time, line.settings);
  else await outgoing.sendJpeg(frame, number, time, line.settings);
}

/** What happened until now, copying and encoding, says nothing about the line. */
function transmit(message) {
  if (socket?.readyState !== 1) return;
  if (flying) { flying.size = message.byteLength; flying.at = clock(); }
  socket.send(message);
}

/** Twice a second. */
function adapt() {
  if (flying && clock() - flying.at > patienceForAck) trySend();
  if (seat) line.adapt();
}
