/* The administrators' pages work without this. It folds what is wide on a narrow screen, copies, and previews. */
"use strict";

(() => {
  const narrow = window.matchMedia("(max-width: 960px)");
  const fold = () => {
    for (const part of document.querySelectorAll(".desk-tasks, .list-filters")) {
      part.open = !narrow.matches;
    }
  };
  fold();
  narrow.addEventListener("change", fold);

  // On a narrow screen a row becomes a card: every value then needs its heading beside it.
  for (const table of document.querySelectorAll(".list-table")) {
    const names = [...table.querySelectorAll("thead th")].map((head) =>
      head.textContent.replace(/[↑↓]/g, "").trim(),
    );
    for (const row of table.tBodies[0].rows) {
      [...row.cells].forEach((cell, at) => {
        if (cell.tagName === "TD" && cell.textContent.trim()) cell.dataset.label = names[at];
      });
    }
  }

  // The box above a list ticks every row of it.
  const every = document.querySelector("#action-toggle");
  every?.addEventListener("change", () => {
    for (const box of document.querySelectorAll("input.action-select")) box.checked = every.checked;
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-admin-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(button.previousElementSibling.textContent.trim());
    const said = document.createElement("span");
    said.className = "soft small";
    said.setAttribute("role", "status");
    said.textContent = "Copied";
    button.after(said);
    setTimeout(() => said.remove(), 1600);
  });

  // The boxes in which select2 searches have no name of their own.
  const jQuery = window.django?.jQuery;
  const nameBox = (box, select) => {
    const label = select?.labels?.[0]?.textContent.trim();
    if (label) box?.setAttribute("aria-label", label);
  };
  jQuery?.(() => {
    for (const select of document.querySelectorAll("select.select2-hidden-accessible")) {
      nameBox(select.nextElementSibling?.querySelector(".select2-search__field"), select);
    }
  });
  jQuery?.(document).on("select2:open", (event) => {
    nameBox(document.querySelector(".select2-container--open .select2-search__field"), event.target);
  });

  // Addresses that contain the short name follow it while it is typed.
  const slug = document.querySelector("#id_slug");
  const name = document.querySelector("#id_name");
  const shown = document.querySelectorAll("[data-slug]");
  if (slug && shown.length) {
    let own = slug.value !== "";
    const show = () => {
      const refused = slug.getAttribute("aria-invalid") === "true" && slug.value === slug.defaultValue;
      const usable = !refused && /^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$/.test(slug.value);
      for (const part of shown) {
        part.textContent = usable ? slug.value : part.dataset.slug;
        part.classList.toggle("unfilled", !usable);
        const copy = part.closest(".copyable")?.querySelector("[data-admin-copy]");
        if (copy) copy.disabled = !usable;
      }
    };
    slug.addEventListener("input", () => {
      own = slug.value !== "";
      show();
    });
    name?.addEventListener("input", () => {
      if (own) return;
      slug.value = name.value
        .toLowerCase()
        .normalize("NFKD")
        .replace(/[\u0300-\u036f]/g, "")
        .replace(/[^a-z0-9]+/g, "-")
        .replace(/^-+|-+$/g, "")
        .slice(0, 40);
      show();
    });
    show();
  }

  // A panel that shows what a form would do, before it is saved.
  const live = document.querySelector("[data-preview]");
  const form = live?.closest(".desk-main").querySelector("form.desk-form");
  if (live && form) {
    let waiting = 0;
    let latest = 0;
    const sayFailed = () => {
      const said = document.createElement("p");
      said.className = "soft";
      said.textContent = "This could not be worked out just now. Nothing was saved.";
      live.replaceChildren(...live.querySelectorAll("h2"), said);
    };
    const refresh = async () => {
      const mine = ++latest;
      live.setAttribute("aria-busy", "true");
      try {
        const answer = await fetch(live.dataset.preview, {
          method: "POST",
          body: new FormData(form),
          credentials: "same-origin",
        });
        const text = await answer.text();
        if (mine !== latest) return;
        // Whoever is signed out by now is led to another page, which does not belong here.
        if (answer.ok && !answer.redirected) live.innerHTML = text;
        else sayFailed();
      } catch {
        if (mine === latest) sayFailed();
      } finally {
        if (mine === latest) live.removeAttribute("aria-busy");
      }
    };
    const later = () => {
      clearTimeout(waiting);
      waiting = setTimeout(refresh, 250);
    };
    form.addEventListener("input", later);
    form.addEventListener("change", later);
    // Django's autocomplete tells jQuery, not the page.
    jQuery?.(form).on("change", later);
    refresh();
  }
})();
