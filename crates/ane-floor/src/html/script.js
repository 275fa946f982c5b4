// Describes the operation that is selected by pointer, touch or keyboard. Without this script, tooltips and the table do so.
const picked = document.getElementById('picked');
const show = (node) => {
  document.querySelectorAll('.node.picked').forEach((other) => other.classList.remove('picked'));
  node.classList.add('picked');
  picked.textContent = node.querySelector('title').textContent;
};
document.querySelectorAll('.node').forEach((node) => {
  ['click', 'focus', 'mouseenter'].forEach((event) => node.addEventListener(event, () => show(node)));
});
// Filters the table by the typed text.
document.querySelectorAll('input[data-filter]').forEach((input) => {
  input.hidden = false;
  const rows = [...input.parentElement.querySelectorAll('tbody tr')];
  input.addEventListener('input', () => {
    const wanted = input.value.toLowerCase();
    rows.forEach((row) => { row.hidden = !row.textContent.toLowerCase().includes(wanted); });
  });
});
