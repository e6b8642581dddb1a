// The chat: conversations are kept in this browser (localStorage), answers come from /v1/chat/completions.
'use strict';

const by = (id) => document.getElementById(id);
const store = {
  get(name, otherwise) {
    try { return JSON.parse(localStorage.getItem(`venturi.${name}`)) ?? otherwise; } catch { return otherwise; }
  },
  set(name, value) {
    try { localStorage.setItem(`venturi.${name}`, JSON.stringify(value)); } catch { problem('This browser keeps nothing more: conversations will be gone with the tab.'); }
  },
};

let conversations = store.get('conversations', []);  // [{id, title, messages: [{role, content, note}]}], newest first
let settings = store.get('settings', {});
let current = null;  // the conversation shown
let running = null;  // AbortController of the answer that comes
let key = sessionStorage.getItem('venturi.key') ?? '';
let poll = () => {};

function problem(text) {
  by('problem').textContent = text ?? '';
  by('problem').hidden = !text;
}

const announce = (text) => { by('announce').textContent = text; };

async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { 'Content-Type': 'application/json', ...(key ? { Authorization: `Bearer ${key}` } : {}) } });
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const error = new Error(body.error?.message ?? `the server answers with status ${response.status}`);
  error.status = response.status;
  throw error;
}

// Conversations.

function save() { store.set('conversations', conversations); }

function title(c) { return c.title || 'New conversation'; }

function list() {
  by('conversations').replaceChildren(...conversations.map((c) => {
    const item = document.createElement('li'), open = document.createElement('button'), remove = document.createElement('button');
    open.type = remove.type = 'button';
    open.className = 'open';
    open.textContent = title(c);
    open.setAttribute('aria-current', String(c === current));
    open.onclick = () => { show(c); shut(); by('prompt').focus(); };
    remove.className = 'delete';
    remove.textContent = '×';
    remove.setAttribute('aria-label', `Delete “${title(c)}”`);
    remove.onclick = () => {
      if (c === current) running?.abort();
      conversations = conversations.filter((other) => other !== c);
      save();
      if (c === current) show(conversations[0] ?? null); else list();
      announce('Deleted.');
    };
    item.append(open, remove);
    return item;
  }));
}

function shut() {
  by('sidebar').classList.remove('shown');
  by('menu').setAttribute('aria-expanded', 'false');
}

// Text, with what stands between ``` lines as code. Never as HTML.
function fill(element, text) {
  const parts = text.split(/^```[^\n]*\n?/m);
  element.replaceChildren(...parts.flatMap((part, i) => {
    if (!part) return [];
    const block = document.createElement(i % 2 ? 'pre' : 'p');
    if (i % 2) block.tabIndex = 0;
    block.textContent = part.replace(/\n$/, '');
    return [block];
  }));
}

function view(message) {
  const element = document.createElement('article'), head = document.createElement('h3');
  const body = document.createElement('div'), note = document.createElement('p');
  element.className = `message ${message.role}`;
  head.textContent = message.role === 'user' ? 'You' : 'Model';
  note.className = 'note';
  note.textContent = message.note ?? '';
  fill(body, message.content);
  element.append(head, body, note);
  return { element, body, note };
}

function show(conversation) {
  if (conversation !== current) running?.abort();
  current = conversation;
  by('title').textContent = conversation ? title(conversation) : 'New conversation';
  by('log').replaceChildren(...(conversation?.messages ?? []).map((m) => view(m).element));
  by('log').scrollTop = by('log').scrollHeight;
  problem();
  list();
  buttons();
}

function buttons() {
  by('send').disabled = running !== null;
  by('stop').disabled = running === null;
  by('again').disabled = running !== null || !current?.messages.length;
}

// Answers.

let models = [];  // names, where there are several

// What the server has, as /status tells.
function offer(list) {
  const names = list.length > 1 ? list.map((m) => m.name) : [], select = by('model-name');
  by('model-choice').hidden = names.length === 0;
  if (names.join('\n') !== models.join('\n')) {
    models = names;
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    if (names.includes(settings.model)) select.value = settings.model;
  }
  list.forEach((m, i) => { if (names.length) select.options[i].textContent = m.state === 'loaded' ? m.name : `${m.name} (${m.state})`; });
}

const numbers = ['temperature', 'top_p', 'top_k', 'min_p', 'max_tokens', 'seed'];

// Many models' templates refuse two messages of one side in a row: what got no answer goes with what was said after it.
function alternating(messages) {
  const turns = [];
  for (const { role, content } of messages)
    if (turns.at(-1)?.role === role) turns.at(-1).content += `\n\n${content}`; else turns.push({ role, content });
  return turns;
}

function request(conversation) {
  const messages = alternating(conversation.messages);
  if (settings.system) messages.unshift({ role: 'system', content: settings.system });
  const body = { messages, stream: true, stream_options: { include_usage: true } };
  if (models.includes(settings.model)) body.model = settings.model;
  for (const name of numbers) {
    const value = Number(settings[name]);
    if (settings[name] !== undefined && settings[name] !== '' && Number.isFinite(value)) body[name] = value;
  }
  return body;
}

// Calls take(event) for each event of a stream; true if it came to its end.
async function events(response, take) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return false;
    rest += value;
    const blocks = rest.split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) {
      if (!block.startsWith('data: ')) continue;
      const data = block.slice(6);
      if (data === '[DONE]') return true;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message ?? 'the answer broke off');
      take(event);
    }
  }
}

// After no answer: the messages that it was to replace are back, or what was asked is, where it can be sent again.
// Elsewhere, or beside something typed since, it stays, and goes with the next.
function takeBack(conversation, replaced) {
  const shown = conversation === current;
  if (replaced.length) {
    conversation.messages.push(...replaced);
    if (shown) by('log').append(...replaced.map((m) => view(m).element));
    return ' The one before stays.';
  }
  if (!shown || by('prompt').value.trim()) return '';
  by('prompt').value = conversation.messages.pop().content;
  by('log').lastElementChild.remove();
  return ' Your message is in the message field again.';
}

async function answer(replaced = []) {
  const conversation = current, message = { role: 'assistant', content: '', note: '' };
  const shown = view(message), control = new AbortController(), times = [], log = by('log');
  running = control;
  problem();
  buttons();
  shown.element.setAttribute('aria-busy', 'true');
  log.append(shown.element);
  log.scrollTop = log.scrollHeight;
  announce('The model is answering.');
  const asked = performance.now();
  let usage = null, finish = null, drawn = false, failure = '';
  const draw = () => {
    drawn = false;
    const follow = log.scrollTop + log.clientHeight > log.scrollHeight - 60;
    fill(shown.body, message.content);
    if (follow) log.scrollTop = log.scrollHeight;
  };
  try {
    const response = await ask('/v1/chat/completions', { method: 'POST', body: JSON.stringify(request(conversation)), signal: control.signal });
    const whole = await events(response, (event) => {
      usage = event.usage ?? usage;
      const choice = event.choices?.[0];
      finish = choice?.finish_reason ?? finish;
      if (!choice?.delta?.content) return;
      message.content += choice.delta.content;
      times.push(performance.now());
      if (!drawn) { drawn = true; requestAnimationFrame(draw); }
    });
    if (!whole) throw new Error('the connection broke off before the end');
    message.note = [usage ? `${usage.completion_tokens} tokens` : '', message.content ? '' : 'nothing was said', load.answered(asked, times), finish === 'length' ? 'cut at the longest length' : ''].filter(Boolean).join(', ');
  } catch (error) {
    if (control.signal.aborted) {
      message.note = 'stopped';
      failure = 'Stopped.';
      load.answered(asked, times);
    } else {
      message.note = 'broke off';
      failure = message.content ? 'The answer broke off.' : 'No answer came.';
      problem(error.message);
      if (error.status === 401) openKey();
    }
  }
  running = null;
  fill(shown.body, message.content);
  shown.note.textContent = message.note;
  shown.element.removeAttribute('aria-busy');
  if (message.content || !failure) {
    conversation.messages.push(message);
  } else {
    shown.element.remove();
    failure += takeBack(conversation, replaced);
  }
  save();
  announce(failure || 'The answer is there.');
  buttons();
}

function send() {
  const text = by('prompt').value.trim();
  if (!text || running) return;
  if (!current) {
    current = { id: crypto.randomUUID?.() ?? String(Date.now()), title: '', messages: [] };
    conversations.unshift(current);
  }
  current.title ||= text.slice(0, 60);
  const message = { role: 'user', content: text };
  current.messages.push(message);
  by('log').append(view(message).element);
  by('title').textContent = title(current);
  by('prompt').value = '';
  save();
  list();
  answer();
}

function again() {
  if (running || !current?.messages.length) return;
  const replaced = [];
  while (current.messages.at(-1)?.role === 'assistant') {
    replaced.unshift(current.messages.pop());
    by('log').lastElementChild?.remove();
  }
  if (current.messages.length) answer(replaced);
}

// Settings, key, colours.

function fields() {
  for (const field of document.querySelectorAll('[data-setting]')) field.value = settings[field.dataset.setting] ?? '';
}

function openKey() {
  by('key').value = key;
  if (!by('key-dialog').open) by('key-dialog').showModal();
}

const themes = { auto: 'as the system has them', light: 'light', dark: 'dark' };
function theme(name) {
  if (name === 'auto') delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = name;
  by('theme').textContent = name[0].toUpperCase() + name.slice(1);
  by('theme').setAttribute('aria-label', `Colours: ${themes[name]}`);
  store.set('theme', name);
}

by('form').onsubmit = (event) => { event.preventDefault(); send(); };
by('prompt').onkeydown = (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
};
document.onkeydown = (event) => {
  if (event.key !== 'Escape') return;
  running?.abort();
  shut();
};
by('stop').onclick = () => running?.abort();
by('again').onclick = again;
by('new').onclick = () => { show(null); shut(); by('prompt').focus(); };
by('menu').onclick = () => by('menu').setAttribute('aria-expanded', String(by('sidebar').classList.toggle('shown')));
by('theme').onclick = () => {
  const names = Object.keys(themes);
  theme(names[(names.indexOf(store.get('theme', 'auto')) + 1) % names.length]);
};
by('key-button').onclick = openKey;
by('key-dialog').onclose = () => {
  if (by('key-dialog').returnValue !== 'save') return;
  key = by('key').value.trim();
  sessionStorage.setItem('venturi.key', key);
  problem();
  poll();
};
by('defaults').onclick = () => { settings = {}; store.set('settings', settings); fields(); };
for (const field of document.querySelectorAll('[data-setting]'))
  field.oninput = () => {
    if (!field.checkValidity()) return field.setAttribute('aria-invalid', 'true');
    field.removeAttribute('aria-invalid');
    settings[field.dataset.setting] = field.value;
    store.set('settings', settings);
  };

theme(store.get('theme', 'auto') in themes ? store.get('theme', 'auto') : 'auto');
if (!Array.isArray(conversations)) conversations = [];
fields();
show(conversations[0] ?? null);
by('model-name').onchange = () => { settings.model = by('model-name').value; store.set('settings', settings); };
poll = load.start(async (path) => (await ask(path)).json(), offer);
