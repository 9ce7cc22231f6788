(() => {
  const status = document.getElementById('live');
  const source = new EventSource('events' + location.search);
  source.addEventListener('view', event => {
    const next = new DOMParser().parseFromString(event.data, 'text/html');
    for (const part of document.querySelectorAll('[data-live]')) {
      const fresh = next.getElementById(part.id);
      // A part that the reader is working in stays as it is.
      if (fresh && !part.contains(document.activeElement) && fresh.innerHTML !== part.innerHTML)
        part.innerHTML = fresh.innerHTML;
    }
    status.textContent = 'Live.';
  });
  source.addEventListener('error', () => { status.textContent = 'Not connected; trying again. The figures are old.'; });
})();
