// The live picture of the server: asks /status once a second while the page is seen.
'use strict';

const load = (() => {
  const kept = 120;  // points of the chart
  const rates = [];
  let before = null, timer = 0;
  const put = (id, text) => { document.getElementById(id).textContent = text; };

  const bytes = (n) => n >= 1e9 ? `${(n / 1e9).toFixed(2)} GB` : n >= 1e6 ? `${(n / 1e6).toFixed(1)} MB` : `${Math.ceil(n / 1e3)} kB`;
  const time = (s) => s >= 1 ? `${s.toFixed(2)} s` : `${(s * 1e3).toFixed(1)} ms`;

  function chart() {
    const top = Math.max(1, ...rates);
    const points = rates.map((r, i) => `${(240 * (i + kept - rates.length) / (kept - 1)).toFixed(1)},${(57 - 54 * r / top).toFixed(1)}`);
    const line = document.createElementNS('http://www.w3.org/2000/svg', 'polyline');
    line.setAttribute('points', points.join(' '));
    document.getElementById('chart').replaceChildren(line);
  }

  function memory(m) {
    put('memory', m.limit === null ? `${bytes(m.held)} held, no limit` : `${bytes(m.held)} of ${bytes(m.limit)} held`);
    const whole = m.limit === null ? m.held : m.limit;
    document.getElementById('holdings').replaceChildren(...m.holdings.map((h) => {
      const item = document.createElement('li'), name = document.createElement('span'), size = document.createElement('span');
      const meter = document.createElement('meter');
      name.textContent = h.holder;
      size.textContent = bytes(h.bytes);
      meter.max = whole || 1;
      meter.value = h.bytes;
      meter.setAttribute('aria-label', `${h.holder}: ${bytes(h.bytes)}`);
      item.append(name, size, meter);
      return item;
    }));
  }

  function show(now) {
    put('model', now.models.length > 1 ? `${now.models.length} models` : `${now.model}, context ${now.context}`);
    put('running', now.running);
    put('waiting', now.waiting);
    put('connections', now.connections);
    put('load-state', now.draining ? 'draining: takes no more requests' : now.waiting ? 'all places taken' : now.running ? 'working' : 'idle');
    const meter = document.getElementById('state-meter');
    meter.value = now.state.capacity ? now.state.tokens / now.state.capacity : 0;
    meter.title = `${now.state.tokens} of ${now.state.capacity} tokens`;
    memory(now.memory);
    if (before) {
      const past = (now.at - before.at) / 1e3, steps = now.steps - before.steps;
      const rate = past > 0 ? Math.max(0, now.output_tokens - before.output_tokens) / past : 0;
      rates.push(rate);
      if (rates.length > kept) rates.shift();
      put('rate', rate.toFixed(1));
      if (steps > 0) put('step', time((now.step_seconds - before.step_seconds) / steps));
      chart();
    }
    before = now;
  }

  // `ask(path)` gives the parsed answer or throws.
  // `offer(models)` is told which there are.
  function start(ask, offer) {
    const tick = async () => {
      clearTimeout(timer);
      if (!document.hidden) {
        try {
          const now = await ask('/status');
          now.at = performance.now();
          show(now);
          offer(now.models);
        } catch (problem) {
          put('load-state', problem.status === 401 ? 'give a key to see it' : 'the server does not answer');
          before = null;
        }
      }
      timer = setTimeout(tick, 1000);
    };
    document.addEventListener('visibilitychange', tick);
    tick();
    return tick;
  }

  // What one answer was like: times in milliseconds at which its pieces came.
  function answered(asked, times) {
    if (!times.length) return '';
    const gaps = times.slice(1).map((t, i) => t - times[i]);
    const mean = gaps.length ? gaps.reduce((a, b) => a + b, 0) / gaps.length : 0;
    put('first', time((times[0] - asked) / 1e3));
    put('between', gaps.length ? time(mean / 1e3) : '–');
    put('longest', gaps.length ? time(Math.max(...gaps) / 1e3) : '–');
    return `first token after ${time((times[0] - asked) / 1e3)}` + (gaps.length ? `, ${time(mean / 1e3)} between pieces` : '');
  }

  return { start, answered };
})();
