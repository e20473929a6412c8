// Copy buttons of the setup page. Without this script they stay hidden; a click selects the text all the same.
for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  const text = button.previousElementSibling;
  const words = button.textContent;
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(text);
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = button.dataset.copied;
    } catch {
      button.textContent = button.dataset.selected; // no clipboard without https: the text is selected
    }
    setTimeout(() => { button.textContent = words; }, 3000);
  });
}
