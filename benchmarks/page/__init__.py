"""The page in a real Chromium: frames/s and age glass to glass, and how it comes back from trouble.

    python -m benchmarks.page                            every part but the hour, one after the other
    python -m benchmarks.page --only soak --soak 60      an hour of live run
    python -m benchmarks.page --only ways -o benchmarks/results/2026-11-27-page

The browser's camera shows the embedded clip at 640x480; server, browser and camera share this machine's
processors, and the person is edited all the time unless a row says otherwise. Ages are measured by the page
itself: the number in the strip below every frame is read back from what is shown, and counts from the moment
the browser had the frame to the refresh of the screen after it was drawn. Compared are the page's own ways
with the same page over aiortc as it is, and over MJPEG (``multipart/x-mixed-replace`` into an <img>).

`browser` drives Chromium and the server, `parts` are the measurements, `report` keeps what they found.
"""
