import { UNPRINTABLE } from '@dstack-cloud/encoding';

/**
 * The script of the console. Everything that it shows goes through `textContent`, with what cannot be seen made visible:
 * names, ids and texts on a chain are the words of strangers. It talks to its own origin alone.
 */
export const CONSOLE_SCRIPT: string = String.raw`
const byId = (id) => document.getElementById(id);
const unprintable = /${UNPRINTABLE.source}/gu;
const MAX = 4000;
const shown = (value) => {
  const text = String(value ?? '');
  return (text.length > MAX ? text.slice(0, MAX) + '…' : text)
    .replace(unprintable, (c) => (c === '\n' ? c : '\\u{' + c.codePointAt(0).toString(16) + '}'));
};
const el = (name, attributes = {}, ...children) => {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  for (const child of children.flat()) {
    if (child === undefined || child === null || child === false) continue;
    node.append(child instanceof Node ? child : shown(child));
  }
  return node;
};
const hex = (value) => el('span', { class: 'hex' }, value);
const tag = (text, kind) => el('span', { class: 'tag ' + kind }, text);
const none = () => el('span', { class: 'soft' }, 'none');
const ZERO = /^0x0+$/;
const address = (value) => (!value || ZERO.test(value) ? none() : hex(value));
const who = ({ address: value, kind }) => el('span', {}, address(value), ' ', el('span', { class: 'soft' }, kind));
const list = (items, make) => (items.length === 0 ? none() : el('ul', {}, items.map((item) => el('li', {}, make(item)))));

const UNITS = [['day', 86400], ['hour', 3600], ['minute', 60], ['second', 1]];
const duration = (seconds) => {
  const parts = [];
  let left = Math.max(0, Math.floor(seconds));
  for (const [name, size] of UNITS) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count > 0) parts.push(count + ' ' + name + (count === 1 ? '' : 's'));
  }
  return parts.slice(0, 2).join(' ') || '0 seconds';
};
const ago = (seconds) => duration(now - seconds).replace(/ \d+ second.*$/, '') + ' ago';
const LAST = 8640000000000;
const time = (seconds) => {
  if (!(seconds >= 0 && seconds < LAST)) return el('span', {}, 'never');
  const iso = new Date(seconds * 1000).toISOString();
  return el('time', { datetime: iso }, iso.slice(0, 16).replace('T', ' ') + ' UTC');
};
const until = (notAfter) => (notAfter === 0 ? 'no end' : time(notAfter));

async function get(path) {
  const answer = await fetch(path, { headers: { accept: 'application/json' } });
  if (!answer.ok) throw new Error('The console answered ' + answer.status);
  return answer.json();
}

const facts = (rows) => {
  const made = el('dl');
  for (const [name, ...value] of rows) made.append(el('dt', {}, name), el('dd', {}, value));
  return made;
};
const card = (title, rows) => el('div', { class: 'card' }, el('h3', {}, title), facts(rows));

function table(caption, heads, rows) {
  if (rows.length === 0) return el('p', { class: 'soft' }, caption + ': none.');
  return el('div', { class: 'wide', tabindex: '0', role: 'region', 'aria-label': caption },
    el('table', {}, el('caption', {}, caption),
      el('thead', {}, el('tr', {}, heads.map((head) => el('th', { scope: 'col' }, head)))),
      el('tbody', {}, rows.map((cells) => el('tr', {}, cells.map((cell) => el('td', {}, cell)))))));
}

const SEVERITY = { critical: 'bad', warning: 'warn', info: 'soft' };
const STATE = { waiting: 'warn', signing: 'warn', ready: 'good', done: 'soft', cancelled: 'soft' };
let now = 0;
/** Whether anything was read from the chain: an empty list before that is no statement. */
let isRead = false;
/** Seconds after which a chain or its endpoints stand still. */
const OLD = 900;
const VIEWS = {
  operations: {
    heads: ['State', 'What it does', 'When', 'Operation'],
    caption: 'Scheduled operations and announced calls, pending ones first',
    row: (o) => [
      tag(o.state, STATE[o.state] ?? 'soft'),
      el('div', { class: 'text' }, o.lines.join('\n')),
      o.state === 'waiting' ? el('span', {}, 'in ' + duration(o.readyAt - now) + ', ', time(o.readyAt))
        : o.state === 'ready' ? el('span', {}, 'since ', time(o.readyAt)) : time(o.ended?.time),
      el('div', {}, hex(o.id), el('div', { class: 'soft' }, o.kind + ' by ', hex(o.by))),
    ],
  },
  transactions: {
    heads: ['State', 'What it would do', 'Who agreed', 'Transaction'],
    caption: 'Transactions that wait at the Safe transaction service',
    row: (t) => [
      tag(t.state, STATE[t.state] ?? 'soft'),
      el('div', {}, el('div', { class: 'text' }, t.lines.join('\n')),
        t.rivals === 0 ? '' : el('div', { class: 'bad' }, t.rivals + ' more with the same nonce: only one of them can be executed'),
        el('div', { class: 'soft' }, 'as the service says: not on the chain')),
      el('div', {}, t.agreed.length + ' of ' + t.threshold + ' needed',
        list(t.agreed, (a) => el('span', {}, hex(a.address), ' ', el('span', { class: 'soft' }, a.onChain ? 'approved on the chain' : 'signed; checked here')))),
      el('div', {}, hex(t.hash), el('div', { class: 'soft' }, 'nonce ' + t.nonce + ' of Safe ', hex(t.safe)),
        el('div', { class: 'soft' }, 'seen here since ', time(t.since))),
    ],
  },
  changes: {
    heads: ['Time', 'What', 'Who', 'Transaction'],
    caption: 'Changes, the newest first',
    row: (c) => [
      el('span', {}, time(c.time), el('div', { class: 'soft' }, 'block ' + c.block)),
      el('div', {}, tag(c.rule, SEVERITY[c.severity] ?? 'soft'), ' ', el('span', { class: 'text' }, c.text)),
      address(c.actor),
      hex(c.transaction),
    ],
  },
  apps: {
    heads: ['App', 'Owner', 'Compose hashes', 'Devices', 'State'],
    caption: 'Registered apps, the newest first',
    row: (a) => [
      hex(a.address),
      address(a.owner),
      el('div', {}, list(a.composeHashes, (h) => el('span', {}, hex(h.value), h.notAfter === 0 ? '' : ' until ', h.notAfter === 0 ? '' : time(h.notAfter))),
        a.moreHashes > 0 ? 'and ' + a.moreHashes + ' more' : ''),
      !a.known ? 'unknown' : a.devices === null ? 'any' : String(a.devices),
      el('div', {}, a.blocked ? tag('blocked', 'bad') : tag('registered', 'good'), ' ',
        a.notAfter === 0 ? '' : el('span', {}, 'until ', time(a.notAfter)),
        a.upgradesDisabled ? el('div', {}, 'code is fixed') : '',
        a.muted ? el('div', { class: 'warn' }, 'not followed: it writes too much')
          : a.known ? '' : el('div', { class: 'warn' }, 'not followed, or not read yet'),
        a.complete ? '' : el('div', { class: 'soft' }, 'what came before its registration is not shown')),
    ],
  },
};
const allowance = (caption) => ({
  heads: ['Value', 'Since', 'Until'],
  caption,
  row: (i) => [hex(i.value), time(i.since), i.notAfter !== 0 && i.notAfter < now ? el('span', { class: 'bad' }, 'expired ', time(i.notAfter)) : until(i.notAfter)],
});
VIEWS.images = allowance('OS images that apps and the KMS may run on');
VIEWS.measurements = allowance('Measurements of the KMS');
VIEWS.devices = allowance('Devices of the KMS');

const pages = {};
async function show(name, focus) {
  const view = VIEWS[name];
  if (!isRead) return void byId(name).replaceChildren(el('p', { class: 'soft' }, view.caption + ': not known yet.'));
  const data = await get('/api/list?name=' + name + '&page=' + (pages[name] ?? 1));
  pages[name] = data.page;
  const parts = [table(view.caption + ' (' + data.total + ')', view.heads, data.items.map(view.row))];
  if (data.pages > 1) {
    const turn = (label, by, off) => {
      const button = el('button', { type: 'button', 'data-turn': String(by) }, label);
      button.disabled = off;
      button.setAttribute('aria-label', label + ' page of ' + view.caption);
      button.addEventListener('click', () => { pages[name] += by; void run(() => show(name, by)); });
      return button;
    };
    parts.push(el('div', { class: 'pager' }, turn('Previous', -1, data.page <= 1),
      el('span', { 'aria-live': 'polite' }, 'Page ' + data.page + ' of ' + data.pages), turn('Next', 1, data.page >= data.pages)));
  }
  byId(name).replaceChildren(...parts);
  if (focus) {
    const wanted = byId(name).querySelector('[data-turn="' + focus + '"]:not(:disabled)') ?? byId(name).querySelector('button:not(:disabled)');
    wanted?.focus();
  }
}

const brief = (text) => String(text).replace(/0x[0-9a-fA-F]{16,}/g, (hash) => hash.slice(0, 8) + '…' + hash.slice(-4));
const tile = (kind, target, title, value, ...text) =>
  el('li', { class: 'tile ' + kind }, el('a', { href: '#' + target }, title), el('strong', {}, value), el('p', {}, text));
const UNREAD = 'Nothing was read from the chain yet: what is allowed, by whom, and what is pending is not known';
function summary({ kms, counts, next, lastChange, health }) {
  const down = health.filter((h) => !h.ok);
  const some = (count, name) => count + ' ' + name + (count === 1 ? '' : 's');
  const healthTile = tile(health.length === 0 ? '' : down.length === 0 ? 'good' : 'bad', 'health-title', 'Health',
    health.length === 0 ? 'Unknown' : down.length === 0 ? 'All answer' : down.length + ' of ' + health.length + ' down',
    health.length === 0 ? 'No service or machine is known here' : down.length === 0 ? some(health.length, 'service') + ' and machines' : down.map((h) => (h.kind === 'kms' ? 'KMS ' : 'App ') + h.name + ': ' + h.text).join(', '));
  if (kms === null) {
    byId('summary').replaceChildren(tile('warn', 'state-title', 'Policy', 'Unknown', UNREAD), healthTile);
    return;
  }
  byId('summary').replaceChildren(
    tile(kms.paused ? 'bad' : 'good', 'state-title', 'Policy', kms.paused ? 'Paused' : 'Active',
      kms.paused ? 'Nothing is allowed' : 'What is listed is allowed'),
    healthTile,
    tile(counts.pending === 0 ? '' : 'warn', 'operations-title', 'Pending operations',
      counts.pending === 0 ? 'None' : counts.pending + (counts.ready === 0 ? '' : ', ' + counts.ready + ' ready'),
      next === null ? '' : next.state === 'ready' ? 'Ready: ' : next.readyAt === undefined ? 'At the transaction service: ' : 'In ' + duration(next.readyAt - now) + ': ', next === null ? '' : brief(next.lines.join('; '))),
    tile('', 'changes-title', 'Last change', lastChange === null ? 'None' : ago(lastChange.time),
      lastChange === null ? '' : brief((lastChange.actor ? 'By ' + lastChange.actor + ': ' : '') + lastChange.text)),
    tile('', 'images-title', 'Allowed OS images', String(counts.images)),
    tile('', 'apps-title', 'Apps', String(counts.apps)),
    tile('', 'kms-title', 'KMS', some(counts.measurements, 'measurement') + ', ' + some(counts.devices, 'device')),
  );
}
function overview(o) {
  now = o.now;
  const { chain, kms } = o;
  isRead = kms !== null;
  summary(o);
  const lag = chain.headTime === null ? undefined : o.now - chain.headTime;
  const { service } = o;
  byId('service').replaceChildren(
    service === null ? 'No transaction service is configured: only what is on the chain is shown.'
      : shown('At ' + service.host + '. It can leave transactions out; hashes and signatures are checked here, and whatever no signer agreed to is left out.'),
    service === null || service.problem === undefined ? '' : el('div', { class: 'bad' }, 'Not up to date: ' + service.problem));
  const isOld = lag !== undefined && lag > OLD;
  byId('chain').className = isOld ? 'warn' : '';
  byId('chain').replaceChildren(shown('Chain ' + (chain.chainId ?? '?') + ', block ' + (chain.block ?? '?') +
    (lag === undefined ? '' : ', the newest is ' + duration(lag) + ' old') +
    (isOld ? ': the chain stands still, or the endpoints do, and a revocation may be hidden' : '')));
  byId('problem').hidden = chain.problem === undefined;
  byId('problem').textContent = chain.problem === undefined ? '' : shown('Not up to date: ' + chain.problem);
  byId('state').replaceChildren(
    kms === null ? el('p', { class: 'warn' }, UNREAD) : card('DstackKms', [
      ['Address', hex(kms.address)],
      ['State', kms.paused ? tag('paused: nothing is allowed', 'bad') : tag('allows what is listed', 'good')],
      ['Owner', who(kms.owner)],
      ...(ZERO.test(kms.pendingOwner) ? [] : [['Offered to', address(kms.pendingOwner)]]),
      ['Guardians', list(kms.guardians, who)],
      ['Loosening waits', kms.policyDelay === 0 ? none() : duration(kms.policyDelay)],
      ['Code', address(kms.implementation)],
      ['Code of apps', address(kms.appImplementation)],
      ['Gateway', kms.gatewayAppId === '' ? none() : el('span', { class: 'text' }, kms.gatewayAppId)],
      ['Root key', kms.rootKey === '' ? none() : hex(kms.rootKey)],
      ['Denied advisories', list(kms.deniedAdvisories, (id) => el('span', { class: 'text' }, id))],
    ]),
    ...o.timelocks.map((t) => card('Timelock', [
      ['Address', hex(t.address)],
      ['Delay', duration(t.minDelay)],
      ...t.roles.map(({ role, accounts }) => ['May be ' + role, list(accounts, (a) => (a.kind === 'anybody' ? el('span', {}, 'anybody') : who(a)))]),
    ])),
    ...o.safes.map((s) => card('Safe', [
      ['Address', hex(s.address)],
      ['Signatures', s.threshold + ' of ' + s.owners.length],
      ['Signers', list(s.owners, (w) => el('span', {}, hex(w.address), ' ', el('span', { class: 'soft' }, w.lastSeen === null ? 'not seen' : 'seen ', w.lastSeen === null ? '' : time(w.lastSeen))))],
      ['Modules', list(s.modules, (m) => el('span', { class: 'bad' }, m))],
      ['Guard', address(s.guard)],
      ['Executed', String(s.executed)],
    ])),
  );
  byId('health').replaceChildren(table('Services and machines that this console knows of', ['Kind', 'Name', 'State', 'Address'],
    o.health.map((h) => [h.kind === 'kms' ? 'KMS' : 'App', h.name, tag(h.text, h.ok ? 'good' : 'bad'), h.url === '' ? none() : el('span', { class: 'text' }, h.url)])));
}

async function run(work) {
  try { await work(); } catch (error) {
    byId('problem').hidden = false;
    byId('problem').textContent = shown(error instanceof Error ? error.message : error);
  }
}
async function refresh() {
  overview(await get('/api/overview'));
  await Promise.all(Object.keys(VIEWS).map((name) => (byId(name).contains(document.activeElement) ? undefined : show(name))));
  document.body.dataset.ready = 'yes';
}
byId('refresh').addEventListener('click', () => void run(refresh));
await run(refresh);
setInterval(() => { if (document.visibilityState === 'visible') void run(refresh); }, 10000);
`;
