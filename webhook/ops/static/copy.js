// Copy buttons of the setup page. Without this script they stay hidden; a click selects the text all the same.
// One listener for all, because refresh.js puts new buttons in the place of old ones.
document.documentElement.classList.add("scripted");
document.addEventListener("click", async ({ target }) => {
  const button = target.closest("button.copy");
  if (button === null) return;
  const text = button.previousElementSibling;
  const words = button.textContent;
  getSelection().selectAllChildren(text);
  try {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = button.dataset.copied;
  } catch {
    button.textContent = button.dataset.selected; // no clipboard without https: the text is selected
  }
  setTimeout(() => { button.textContent = words; }, 3000);
});
