// A bare page for OBS and other programs: /avatar?background=00ff00&fit=cover&mirror=1&lost=hide
import { Live } from "./live.js";

const wishes = new URLSearchParams(location.search);
const background = wishes.get("background");
if (background && (/^[0-9a-f]{3,8}$/i.test(background) || /^[a-z]+$/i.test(background))) {
  document.body.style.background = /^[0-9a-f]{3,8}$/i.test(background) ? `#${background}` : background;
}
const picture = document.getElementById("after");
picture.classList.toggle("cover", wishes.get("fit") === "cover");
picture.classList.toggle("mirror", wishes.get("mirror") === "1");
const live = new Live(picture, document.getElementById("before"));
live.addEventListener("shown", ({ detail }) => picture.classList.toggle("away", wishes.get("lost") === "hide" && detail.state === "lost"));
