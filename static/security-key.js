/* Shows what became of asking the browser for a security key: allauth's own script tells it to the console only. */
"use strict";

(() => {
  const problems = [...document.querySelectorAll("[data-key-problem]")];
  const button = document.querySelector("[data-asks-key]");
  const show = (name) => {
    for (const one of problems) one.hidden = one.dataset.keyProblem !== name;
  };

  // This comes before allauth's script listens, so that a key is asked once at a time.
  button.addEventListener("click", (event) => {
    if (button.getAttribute("aria-busy") === "true") {
      event.stopImmediatePropagation();
      return;
    }
    button.setAttribute("aria-busy", "true");
    show("");
  });

  document.addEventListener("allauth.error", (event) => {
    event.preventDefault();
    button.removeAttribute("aria-busy");
    const { name } = event.detail.exception;
    show(problems.some((one) => one.dataset.keyProblem === name) ? name : "other");
  });

  // The form is sent by allauth's script once the key has answered; the Enter key asks it as well.
  button.form.addEventListener("submit", (event) => {
    event.preventDefault();
    button.click();
  });
})();
