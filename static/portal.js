/* Daypass: what JavaScript adds to pages that work without it.

   Everything hangs on data- attributes and is delegated from the document, so that what htmx swaps in works at once:
     data-answer="dialog|self"  show the answer to this link or button in the dialog, or in its own place
     data-copy="text"           copy the text
     data-left, data-ago, data-moment, data-clock   times, kept current and shown in the reader's zone
     data-send-at-once          a form that is sent by itself, unless the reader came back to it
   Secrets (data-keys) are wiped when the dialog closes and when the page is left. */

"use strict";

(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const dialog = one("#dialog");
  const dialogBody = one("#dialog-body");

  /* ---- Theme: the system's, or the one chosen here */

  const themeToggle = one("[data-theme-toggle]");
  if (themeToggle) {
    themeToggle.hidden = false;
    themeToggle.addEventListener("click", () => {
      const root = document.documentElement;
      const systemDark = matchMedia("(prefers-color-scheme: dark)").matches;
      const isDark = root.dataset.theme ? root.dataset.theme === "dark" : systemDark;
      const wanted = isDark ? "light" : "dark";
      root.dataset.theme = wanted;
      const secure = location.protocol === "https:" ? "; Secure" : "";
      document.cookie = `daypass_theme=${wanted}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
    });
  }

  /* ---- Times */

  const inWords = (seconds) => {
    const minutes = Math.floor(seconds / 60);
    if (minutes < 1) return "less than a minute";
    const hours = Math.floor(minutes / 60);
    const rest = minutes % 60;
    if (!hours) return `${minutes} min`;
    return rest ? `${hours} h ${rest} min` : `${hours} h`;
  };
  const leftInWords = (until) => {
    const seconds = Math.floor((until - Date.now()) / 1000);
    return seconds <= 0 ? "ended" : `${inWords(seconds)} left`;
  };
  const agoInWords = (moment) => {
    const seconds = Math.floor((Date.now() - moment) / 1000);
    if (seconds < 60) return "just now";
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
    const days = Math.floor(seconds / 86400);
    return days === 1 ? "yesterday" : `${days} days ago`;
  };
  const sameDay = (moment) => moment.toDateString() === new Date().toDateString();
  const clock = (moment) => moment.toLocaleTimeString([], { timeStyle: "short" });
  const exact = (moment) =>
    moment.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  const set = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };
  const tick = (root = document) => {
    for (const time of all("time[datetime]", root)) {
      const moment = new Date(time.dateTime);
      if (Number.isNaN(moment.getTime())) continue;
      if ("left" in time.dataset) set(time, leftInWords(moment));
      else if ("ago" in time.dataset) set(time, agoInWords(moment));
      else if ("clock" in time.dataset) set(time, clock(moment));
      else if ("moment" in time.dataset) set(time, sameDay(moment) ? clock(moment) : exact(moment));
      time.title = exact(moment);
    }
  };
  tick();
  setInterval(tick, 10000);

  /* ---- Telling: a word for eyes at the button, and one for ears */

  const tell = (text, near) => {
    const place = (near && near.closest("[data-keys]") && one("[data-told]", near.closest("[data-keys]"))) || one("#told");
    if (place) place.textContent = text;
  };
  const confirmOn = (button, text) => {
    const label = one("span:not(.icon)", button) || button;
    const hidden = label.classList.contains("visually-hidden");
    const icon = one(".icon", button);
    if (!hidden) {
      button.dataset.label ??= label.textContent;
      button.style.minWidth = `${button.offsetWidth}px`;
      label.textContent = text;
    }
    if (icon) icon.classList.add("tick");
    clearTimeout(Number(button.dataset.timer));
    button.dataset.timer = String(
      setTimeout(() => {
        if (!hidden) label.textContent = button.dataset.label;
        if (icon) icon.classList.remove("tick");
      }, 1800),
    );
  };
  const copy = async (text, button) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      area.setAttribute("readonly", "");
      area.className = "off-screen";
      (dialog && dialog.open ? dialog : document.body).append(area);
      area.select();
      const done = document.execCommand("copy");
      area.value = "";
      area.remove();
      if (!done) {
        tell("Your browser does not allow copying here. Select the text and copy it by hand.", button);
        return;
      }
    }
    confirmOn(button, "Copied");
    tell("Copied.", button);
  };

  /* ---- Live sessions: looked at again when the reader comes back, from AWS or from the dialog */

  const lookAgain = () => {
    const live = one("#live");
    if (live) live.dispatchEvent(new CustomEvent("look-again"));
  };
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") lookAgain();
  });

  /* ---- The dialog */

  let opener = null;

  const wipe = (root) => {
    for (const secret of all("[data-text], [data-masked]", root)) secret.textContent = "";
    root.replaceChildren();
  };
  const wipeAll = () => {
    for (const keys of all("[data-keys]")) wipe(keys);
  };
  const focusReturn = () => {
    const back = opener && (opener.isConnected ? opener : opener.id && document.getElementById(opener.id));
    opener = null;
    if (back) back.focus();
  };
  if (dialog) {
    dialog.addEventListener("close", () => {
      const reload = one("[data-reload-on-close]", dialogBody);
      wipe(dialogBody);
      if (reload) location.reload();
      else {
        focusReturn();
        lookAgain();
      }
    });
    dialog.addEventListener("click", (event) => {
      // Beside the sheet: closes it, but never throws away keys that are shown once.
      if (event.target === dialog && !one("[data-keys]", dialogBody)) dialog.close();
    });
  }

  const ask = async (verb, address, source) => {
    const inDialog = source.dataset.answer === "dialog";
    if (source.getAttribute("aria-busy") === "true") return;
    if (inDialog && !dialogBody.contains(source)) opener = source;
    source.setAttribute("aria-busy", "true");
    const label = source.matches(".button") && !source.children.length ? source.textContent : "";
    if (label) {
      source.style.minWidth = `${source.offsetWidth}px`;
      source.textContent = "Wait…";
    }
    const form = source.form;
    try {
      await htmx.ajax(verb, address, {
        source: form || source,
        target: inDialog ? dialogBody : source,
        swap: inDialog ? "innerHTML" : "outerHTML",
        values: source.name ? { [source.name]: source.value } : {},
      });
    } catch {
      /* told by the htmx events below */
    } finally {
      source.removeAttribute("aria-busy");
      if (label) source.textContent = label;
    }
  };

  document.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (!button || !button.dataset.answer) return;
    event.preventDefault();
    ask("POST", button.getAttribute("formaction"), button);
  });
  document.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    const link = event.target.closest("a[data-answer]");
    if (!link) return;
    event.preventDefault();
    ask("GET", link.getAttribute("href"), link);
  });

  /* ---- Keys: tabs, showing, copying, downloading, clearing */

  // Which tab was chosen last is kept for each kind of tabs by itself: data-tabs names it, "" is that of keys.
  const keptAs = (tabs) => `daypass_${tabs.dataset.tabs || "keys"}_tab`;
  const usual = (tabs) => {
    try {
      const kept = localStorage.getItem(keptAs(tabs));
      if (kept) return kept;
    } catch {
      /* no storage: the guess below */
    }
    return /Windows/.test(navigator.userAgent) ? "powershell" : "bash";
  };
  const choose = (tabs, id, { focus = false, keep = false } = {}) => {
    for (const button of all("[role=tab]", tabs)) {
      const chosen = button.dataset.for === id;
      button.setAttribute("aria-selected", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
      if (chosen && focus) button.focus();
    }
    for (const panel of all("[data-tab]", tabs)) panel.hidden = panel.dataset.tab !== id;
    if (keep) {
      try {
        localStorage.setItem(keptAs(tabs), id);
      } catch {
        /* not kept */
      }
    }
  };
  const makeTabs = (tabs) => {
    const panels = all("[data-tab]", tabs);
    if (!panels.length || one("[role=tablist]", tabs)) return;
    const list = document.createElement("div");
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-label", tabs.dataset.label || "Form of the keys");
    for (const panel of panels) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = panel.dataset.title;
      button.dataset.for = panel.dataset.tab;
      button.id = `tab-button-${panel.dataset.tab}`;
      button.setAttribute("role", "tab");
      button.setAttribute("aria-controls", panel.id);
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", button.id);
      list.append(button);
    }
    tabs.prepend(list);
    tabs.classList.add("made");
    const wanted = usual(tabs);
    choose(tabs, panels.some((panel) => panel.dataset.tab === wanted) ? wanted : panels[0].dataset.tab);
    list.addEventListener("click", (event) => {
      const button = event.target.closest("[role=tab]");
      if (button) choose(tabs, button.dataset.for, { keep: true });
    });
    list.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const buttons = all("[role=tab]", list);
      const here = buttons.indexOf(event.target);
      let next = step ? buttons[(here + step + buttons.length) % buttons.length] : null;
      if (event.key === "Home") next = buttons[0];
      if (event.key === "End") next = buttons.at(-1);
      if (!next) return;
      event.preventDefault();
      choose(tabs, next.dataset.for, { focus: true, keep: true });
    });
  };
  const dress = (root) => {
    for (const hidden of all("[data-needs-script]", root)) hidden.hidden = false;
    for (const tabs of all("[data-tabs]", root)) makeTabs(tabs);
    for (const reveal of all("[data-reveal]", root)) reveal.hidden = true;
  };
  dress(document);

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.copy !== undefined) {
      copy(button.dataset.copy, button);
      return;
    }
    const tab = button.closest("[data-tab]");
    if (!tab) return;
    const text = one("[data-text]", tab);
    if ("copyText" in button.dataset) copy(text.textContent, button);
    if ("download" in button.dataset) {
      const windows = button.dataset.download.endsWith(".cmd");
      const content = windows ? text.textContent.replace(/\r?\n/g, "\r\n") : text.textContent;
      const address = URL.createObjectURL(
        new Blob([content], { type: button.dataset.mediaType }),
      );
      const link = document.createElement("a");
      link.href = address;
      link.download = button.dataset.download;
      link.click();
      setTimeout(() => URL.revokeObjectURL(address), 1000);
      tell("Downloaded.", button);
    }
    if ("show" in button.dataset) {
      const shown = button.getAttribute("aria-pressed") !== "true";
      const reveal = one("[data-reveal]", tab);
      button.setAttribute("aria-pressed", String(shown));
      button.textContent = shown ? "Hide" : "Show";
      reveal.hidden = !shown;
      reveal.open = shown;
      one("[data-masked]", tab).hidden = shown;
    }
    if ("clear" in button.dataset) {
      if (dialog && dialog.open) dialog.close();
      else {
        wipeAll();
        location.assign("/");
      }
    }
  });

  addEventListener("pagehide", wipeAll);
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    wipeAll();
    if (dialog && dialog.open) dialog.close();
    tick();
  });

  /* ---- Forms that are sent by themselves */

  const sending = one("form[data-send-at-once]");
  if (sending) {
    const cameBack = () => performance.getEntriesByType("navigation")[0]?.type === "back_forward";
    const send = () => {
      if (!cameBack()) sending.requestSubmit();
    };
    if (document.prerendering) document.addEventListener("prerenderingchange", send, { once: true });
    else send();
  }

  /* ---- Keyboard */

  const search = () => one("[data-search]");
  const rows = () => all(".role");
  const rowOf = (element) => (element instanceof Element ? element.closest(".role") : null);
  const enter = (row) => {
    const first = row && (one("[data-first]", row) || one("a, button", row));
    if (!first) return;
    first.focus();
    row.scrollIntoView({ block: "nearest" });
  };
  const within = (row, selector) => row && one(selector, row);
  const shortcuts = one("#shortcuts");
  const showShortcuts = () => {
    if (shortcuts && !shortcuts.open && search()) shortcuts.showModal();
  };
  const shortcutsButton = one("[data-shortcuts]");
  if (shortcutsButton && search() && !document.body.classList.contains("admin")) {
    shortcutsButton.hidden = false;
    shortcutsButton.addEventListener("click", showShortcuts);
  }

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (one("dialog[open]")) return;
    const field = search();
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (typing && typing === field) {
      if (event.key === "ArrowDown" || event.key === "Enter") {
        event.preventDefault();
        enter(rows()[0]);
      } else if (event.key === "Escape" && field.value) {
        event.preventDefault();
        field.value = "";
        field.dispatchEvent(new Event("input", { bubbles: true }));
      } else if (event.key === "Escape") field.blur();
      return;
    }
    if (typing) return;
    const row = rowOf(event.target);
    const list = rows();
    const here = row ? list.indexOf(row) : -1;
    switch (event.key) {
      case "/":
        if (!field) return;
        field.focus();
        field.select();
        break;
      case "?":
        showShortcuts();
        break;
      case "ArrowDown":
        if (!list.length || (here < 0 && event.target !== document.body)) return;
        enter(list[Math.min(here + 1, list.length - 1)]);
        break;
      case "ArrowUp":
        if (here < 0) return;
        if (here === 0 && field) field.focus();
        else enter(list[here - 1]);
        break;
      case "k":
        if (!within(row, ".keys")) return;
        within(row, ".keys").click();
        break;
      case "o":
        if (!row) return;
        within(row, ".more").click();
        break;
      case "p":
        if (!row) return;
        within(row, ".pin").click();
        break;
      case "Escape": {
        const menu = one("details.menu[open]");
        if (menu) {
          menu.open = false;
          one("summary", menu).focus();
        } else if (row && field) field.focus();
        else return;
        break;
      }
      default:
        return;
    }
    event.preventDefault();
  });

  document.addEventListener("click", (event) => {
    for (const menu of all("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
    const clear = event.target.closest("[data-clear-search]");
    if (clear && search()) {
      event.preventDefault();
      search().value = "";
      search().dispatchEvent(new Event("input", { bubbles: true }));
      search().focus();
    }
  });

  /* ---- htmx: what it swapped in, and when it got no answer */

  document.addEventListener("htmx:afterSwap", (event) => {
    const target = event.detail.target;
    if (target === dialogBody) {
      dress(dialogBody);
      tick(dialogBody);
      if (!dialog.open) dialog.showModal();
      dialog.scrollTop = 0;
      const title = one("#dialog-title", dialogBody);
      if (title) {
        title.tabIndex = -1;
        title.focus({ preventScroll: true });
      }
    } else tick();
  });
  const noAnswer = () => {
    const notice = one("#no-answer");
    if (notice) notice.hidden = false;
  };
  document.addEventListener("htmx:sendError", noAnswer);
  document.addEventListener("htmx:timeout", noAnswer);
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful && one("#no-answer")) one("#no-answer").hidden = true;
  });
  addEventListener("resize", () => {
    for (const button of all("button[data-label]")) button.style.minWidth = "";
  });
})();
