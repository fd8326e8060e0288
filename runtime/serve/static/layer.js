// What the tracker sees, drawn over the picture: the aligned square, the mesh, the state.
const COLORS = { live: "#4ade80", stale: "#fbbf24", lost: "#f87171" };
const OVAL = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109];

export function drawLayer(canvas, { width, height, faces, mesh, faceState }, mirrored, label) {
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const plane = canvas.getContext("2d");
  plane.clearRect(0, 0, width, height);
  if (!Array.isArray(faces)) return;
  const color = COLORS[faceState] ?? COLORS.lost, unit = Math.max(1, width / 640);
  plane.strokeStyle = plane.fillStyle = color;
  plane.lineWidth = 1.6 * unit;
  const points = mesh ? new Uint16Array(mesh.buffer.slice(mesh.byteOffset, mesh.byteOffset + mesh.byteLength)) : [];
  faces.forEach(({ id, square }, face) => {
    plane.setLineDash(faceState === "live" ? [] : [6 * unit, 5 * unit]);
    plane.beginPath();
    square.forEach(([x, y]) => plane.lineTo(x, y));
    plane.closePath();
    plane.stroke();
    const at = face * 936;
    if (points.length >= at + 936) {
      plane.globalAlpha = 0.75;
      for (let i = 0; i < 468; i++) plane.fillRect(points[at + i * 2] / 16 - 0.6 * unit, points[at + i * 2 + 1] / 16 - 0.6 * unit, 1.3 * unit, 1.3 * unit);
      plane.setLineDash([]);
      plane.beginPath();
      OVAL.forEach((i) => plane.lineTo(points[at + i * 2] / 16, points[at + i * 2 + 1] / 16));
      plane.closePath();
      plane.stroke();
      plane.globalAlpha = 1;
    }
    write(plane, `${id} ${label}`, square, unit, mirrored, width);
  });
  if (!faces.length) write(plane, label, [[12, 34], [12, 34], [12, 34], [12, 34]], unit, mirrored, width);
}

function write(plane, text, square, unit, mirrored, width) {
  plane.save();
  const x = mirrored ? Math.max(...square.map(([x]) => x)) : Math.min(...square.map(([x]) => x));
  const y = Math.max(16 * unit, Math.min(...square.map(([, y]) => y)) - 6 * unit);
  if (mirrored) { plane.translate(width, 0); plane.scale(-1, 1); }
  plane.shadowColor = "#000";
  plane.shadowBlur = 3 * unit;
  plane.font = `600 ${13 * unit}px system-ui, sans-serif`;
  plane.fillText(text, Math.max(4, mirrored ? width - x : x), y);
  plane.restore();
}
