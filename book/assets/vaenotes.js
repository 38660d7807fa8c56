// The theme lets the keyboard reach whatever scrolls, but looks for it only as the page loads or the
// window changes: it has to look again when a hidden cell's code is shown.
document.addEventListener("toggle", () => dispatchEvent(new Event("resize")), true);

// Paper is white, whatever the screen shows.
{
  const root = document.documentElement.dataset;
  let theme;
  addEventListener("beforeprint", () => { theme = root.theme; root.theme = "light"; });
  addEventListener("afterprint", () => { root.theme = theme; });
}

// From file://, Sphinx's search may not fetch the pages that it found, to quote from them.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// What a word of the glossary means is shown at once, by the style, and to the keyboard too.
const explain = () => document.querySelectorAll("a[title]:has(> .std-term)").forEach(word => {
  word.dataset.meaning = word.ariaDescription = word.title;
  word.removeAttribute("title");
});

// A link to what is folded away opens it, and goes there.
const unfold = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  let fold = target && target.closest("details:not([open])");
  if (!fold) return;
  for (; fold; fold = fold.parentElement.closest("details:not([open])")) fold.open = true;
  target.scrollIntoView();
};
addEventListener("hashchange", unfold);

// Films: one picture per position of a slider. Without a script its start alone is shown. A loop plays
// by itself while it is seen, rests on its last picture and starts anew, until somebody clicks on it.
const move = film => {
  const frames = [...film.querySelectorAll("img")], loop = "loop" in film.dataset;
  const [button, slider, shown] = ["button", "input", "output"].map(n => film.querySelector(n));
  const pause = loop ? 160 : 500, rest = 2500;
  let timer = null;
  const show = () => {
    frames.forEach((frame, i) => { frame.hidden = i !== slider.valueAsNumber; });
    shown.value = frames[slider.valueAsNumber].dataset.position;
    slider.setAttribute("aria-valuetext", shown.value);
  };
  const stop = () => { clearTimeout(timer); timer = null; button.textContent = "Play"; };
  const next = () => {
    const last = slider.value === slider.max;
    if (last && !loop) return stop();
    if (last) slider.value = 0; else slider.stepUp();
    show();
    wait();
  };
  const wait = () => { timer = setTimeout(next, loop && slider.value === slider.max ? rest : pause); };
  const play = () => {
    clearTimeout(timer);
    if (!loop && slider.value === slider.max) slider.value = 0;
    show();
    button.textContent = "Pause";
    wait();
  };
  let wanted = loop && !matchMedia("(prefers-reduced-motion: reduce)").matches;
  const toggle = () => {
    if (timer) { wanted = false; stop(); } else { wanted = loop; play(); }
  };
  slider.addEventListener("input", () => { wanted = false; stop(); show(); });
  button.addEventListener("click", toggle);
  if (loop) {
    frames.forEach(frame => frame.addEventListener("click", toggle));
    new IntersectionObserver(([seen]) => {
      if (!seen.isIntersecting) stop(); else if (wanted && !timer) play();
    }, { threshold: 0.3 }).observe(film);
    addEventListener("beforeprint", () => { stop(); slider.value = slider.max; show(); });
  }
  show();
  film.querySelector(".film-controls").hidden = false;
};
const start = () => { explain(); unfold(); document.querySelectorAll(".film").forEach(move); };
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
