import { UNPRINTABLE } from '@dstack-cloud/encoding';

/**
 * The script of the console page. Everything that it shows goes through `textContent`: names, logs and events are the
 * words of others. It talks to its own origin alone.
 */
export const CONSOLE_SCRIPT: string = String.raw`'use strict';
const byId = (id) => document.getElementById(id);
const unprintable = /${UNPRINTABLE.source}/gu;
const shown = (text) => String(text ?? '').slice(0, 262144)
  .replace(unprintable, (c) => (c === '\n' ? c : '\\u{' + c.codePointAt(0).toString(16) + '}'));
const element = (name, text, attributes = {}) => {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = shown(text);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};
const say = (text, isError = false) => {
  byId('message').textContent = shown(text);
  byId('message').className = isError ? 'error' : '';
};
async function call(method, body = {}, mount = '/prpc') {
  const answer = await fetch(mount + '/' + method + '?json', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  const text = await answer.text();
  let value;
  try { value = JSON.parse(text); } catch { throw new Error(text || 'status ' + answer.status); }
  if (!answer.ok) throw new Error(value?.error ?? text);
  return value;
}
const run = (work) => async (event) => {
  event?.preventDefault?.();
  try { await work(event); } catch (error) { say(error.message, true); }
};

const SIZE = 20;
let page = 1;
let open = '';
let listing;
async function refresh() {
  const query = { brief: true, keyword: byId('search').value, page, page_size: SIZE };
  listing = await call('Status', query);
  const pages = Math.max(1, Math.ceil(listing.total / SIZE));
  if (page > pages) { page = pages; return refresh(); }
  byId('page').textContent = 'Page ' + page + ' of ' + pages + ', ' + listing.total + ' machines';
  byId('previous').disabled = page <= 1;
  byId('next').disabled = page >= pages;
  const rows = [];
  for (const vm of listing.vms) {
    const row = element('tr', undefined, { 'data-id': vm.id });
    const name = element('td');
    const button = element('button', vm.name, { type: 'button', class: 'link', 'aria-expanded': String(open === vm.id) });
    button.onclick = run(async () => { open = open === vm.id ? '' : vm.id; await refresh(); });
    name.append(button);
    row.append(name, element('td', vm.status, { class: 'status-' + vm.status }), element('td', vm.uptime),
      element('td', vm.boot_error || vm.shutdown_progress || vm.boot_progress), actionsOf(vm));
    rows.push(row);
    if (open === vm.id) rows.push(await detailsOf(vm));
  }
  byId('machines').replaceChildren(...rows);
}
function actionsOf(vm) {
  const cell = element('td');
  const add = (label, work) => {
    const button = element('button', label, { type: 'button' });
    button.onclick = run(async () => { await work(); await refresh(); });
    cell.append(button, ' ');
  };
  const simple = (label, method) => add(label, async () => { await call(method, { id: vm.id }); say(label + ': ' + vm.name); });
  if (vm.status === 'running' || vm.status === 'stopping') {
    simple('Shut down', 'ShutdownVm');
    add('Kill', async () => { if (confirm('End ' + vm.name + ' at once?')) await call('StopVm', { id: vm.id }); });
  } else {
    simple('Start', 'StartVm');
    add('Remove', async () => {
      if (confirm('Remove ' + vm.name + '? Its disk goes to the trash.')) await call('RemoveVm', { id: vm.id });
    });
  }
  add('Update', () => edit(vm.id, true));
  add('Clone', () => edit(vm.id, false));
  return cell;
}
async function detailsOf(vm) {
  const { found, info } = await call('GetInfo', { id: vm.id });
  const cell = element('td', undefined, { colspan: '5', class: 'details' });
  const row = element('tr', undefined, { 'data-details': vm.id });
  row.append(cell);
  if (!found) return row;
  const { configuration: c } = info;
  const list = element('dl');
  const pair = (name, value) => {
    if (value === undefined || value === null || value === '') return;
    const node = element('dd', value);
    const copy = element('button', 'Copy', { type: 'button', class: 'copy', 'aria-label': 'Copy ' + name });
    copy.onclick = run(() => navigator.clipboard.writeText(String(value)));
    node.append(' ', copy);
    list.append(element('dt', name), node);
  };
  pair('VM', info.id);
  pair('App', info.app_id);
  pair('Instance', info.instance_id);
  pair('App URL', info.app_url);
  pair('Exited', info.exited_at);
  pair('Boot error', info.boot_error);
  if (c) {
    pair('Image', c.image + (info.image_version ? ' (' + info.image_version + ')' : ''));
    pair('TEE', c.no_tee ? 'none' : 'yes');
    pair('Size', c.vcpu + ' vCPU, ' + c.memory + ' MB, ' + c.disk_size + ' GB');
    for (const p of c.ports) pair('Port', p.protocol + ' ' + p.host_address + ':' + p.host_port + ' to ' + p.vm_port);
    for (const url of c.kms_urls) pair('KMS', url);
  }
  for (const i of info.interfaces) pair('Network', i.mode + ' ' + i.mac + ' ' + (i.bridge_name ?? ''));
  cell.append(list);
  const log = element('pre', '', { class: 'log' });
  const tool = (label, work) => {
    const button = element('button', label, { type: 'button' });
    button.onclick = run(work);
    cell.append(button, ' ');
  };
  for (const [label, channel] of [['Serial log', 'serial'], ['QEMU log', 'stdout'], ['Supervisor log', 'stderr']])
    tool(label, async () => {
      const query = new URLSearchParams({ id: vm.id, follow: 'false', ansi: 'false', lines: '500', ch: channel });
      const answer = await fetch('/logs?' + query);
      log.textContent = shown(await answer.text());
    });
  if (vm.status === 'running') {
    tool('Guest', async () => { log.textContent = shown(JSON.stringify(await call('SysInfo', { id: vm.id }, '/guest'), null, 2)); });
    tool('Guest network', async () => { log.textContent = shown(JSON.stringify(await call('NetworkInfo', { id: vm.id }, '/guest'), null, 2)); });
    tool('Containers', async () => { log.textContent = shown(JSON.stringify(await call('ListContainers', { id: vm.id }, '/guest'), null, 2)); });
  }
  if (c) {
    tool('Save app-compose.json', () => save('app-compose.json', c.compose_file));
    if (c.user_config) tool('Save user config', () => save('user-config', c.user_config));
  }
  const events = element('ul');
  for (const e of info.events) events.append(element('li', new Date(e.timestamp).toISOString() + '  ' + e.event + '  ' + e.body));
  cell.append(log, events);
  return row;
}
function save(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: 'text/plain' }));
  const link = element('a', undefined, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

const form = byId('form');
const field = (name) => form.elements.namedItem(name);
const lines = (name) => field(name).value.split('\n').map((line) => line.trim()).filter(Boolean);
let editing;
async function edit(id, isUpdate) {
  form.reset();
  editing = undefined;
  const { images } = await call('ListImages');
  field('image').replaceChildren(...images.map(({ name, is_dev }) => element('option', name + (is_dev ? ' (dev)' : ''), { value: name })));
  if (id) {
    const { info } = await call('GetInfo', { id });
    const c = info?.configuration;
    if (!c) throw new Error('This machine has no readable configuration');
    if (isUpdate) editing = { id, before: c };
    for (const key of ['name', 'image', 'vcpu', 'memory', 'disk_size', 'user_config']) field(key).value = c[key];
    field('compose_file').value = c.compose_file;
    field('no_tee').checked = c.no_tee;
    field('ports').value = c.ports.map((p) => [p.protocol, p.host_address, p.host_port, p.vm_port].join(':')).join('\n');
    field('kms_urls').value = c.kms_urls.join('\n');
    field('gateway_urls').value = c.gateway_urls.join('\n');
  }
  field('name').disabled = isUpdate === true;
  field('app_id').disabled = isUpdate === true;
  field('stopped').disabled = isUpdate === true;
  byId('dialog-title').textContent = editing ? 'Update ' + shown(field('name').value) : 'New machine';
  await showHash();
  byId('dialog').showModal();
}
async function showHash() {
  const text = field('compose_file').value;
  if (text === '') { byId('hash').textContent = ''; return; }
  try { byId('hash').textContent = 'Compose hash: ' + (await call('GetComposeHash', { compose_file: text })).hash; }
  catch (error) { byId('hash').textContent = shown('Compose hash: ' + error.message); }
}
function portsOf() {
  return lines('ports').map((line) => {
    const parts = line.split(':');
    if (parts.length === 3) parts.splice(1, 0, '127.0.0.1');
    const [protocol, host_address, host_port, vm_port] = parts;
    return { protocol, host_address, host_port: Number(host_port), vm_port: Number(vm_port) };
  });
}
const fromHex = (hex) => new Uint8Array((hex.match(/../g) ?? []).map((byte) => parseInt(byte, 16)));
const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
async function seal(appId) {
  const env = lines('environment').filter((line) => !line.startsWith('#') && line.includes('=')).map((line) => {
    const at = line.indexOf('=');
    return { key: line.slice(0, at).trim(), value: line.slice(at + 1).trim() };
  });
  if (env.length === 0) return undefined;
  if (!globalThis.crypto?.subtle) throw new Error('The environment is sealed in the browser, which needs HTTPS or localhost');
  const { public_key: key, signature } = await call('GetAppEnvEncryptPubKey', { app_id: appId });
  if (!confirm('Seal the environment to ' + key + '?\nThis page does not check who signed that key (' + signature.slice(0, 16) + '…): compare it with your KMS, or use dstack-cloud, which does.')) throw new Error('Not sealed');
  const own = await crypto.subtle.generateKey({ name: 'X25519' }, true, ['deriveBits']);
  const theirs = await crypto.subtle.importKey('raw', fromHex(key), { name: 'X25519' }, false, []);
  const secret = await crypto.subtle.deriveBits({ name: 'X25519', public: theirs }, own.privateKey, 256);
  const aes = await crypto.subtle.importKey('raw', secret, 'AES-GCM', false, ['encrypt']);
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const text = new TextEncoder().encode(JSON.stringify({ env }));
  const sealed = new Uint8Array(await crypto.subtle.encrypt({ name: 'AES-GCM', iv }, aes, text));
  const ephemeral = new Uint8Array(await crypto.subtle.exportKey('raw', own.publicKey));
  return toHex(ephemeral) + toHex(iv) + toHex(sealed);
}
async function submit() {
  const compose_file = field('compose_file').value;
  const user_config = field('user_config').value;
  const sizes = { vcpu: Number(field('vcpu').value), memory: Number(field('memory').value), disk_size: Number(field('disk_size').value) };
  const common = { image: field('image').value, no_tee: field('no_tee').checked, ...sizes };
  const urls = { kms_urls: lines('kms_urls'), gateway_urls: lines('gateway_urls') };
  if (editing) {
    const { id, before } = editing;
    const changed = Object.fromEntries(Object.entries(common).filter(([key, value]) => before[key] !== value));
    const appId = (await call('GetInfo', { id })).info.app_id;
    const encrypted_env = await seal(appId);
    await call('UpdateVm', {
      id, ...changed, compose_file: compose_file === before.compose_file ? '' : compose_file,
      user_config: user_config === before.user_config ? '' : user_config,
      update_ports: true, ports: portsOf(), update_kms_urls: true, update_gateway_urls: true, ...urls,
      ...(encrypted_env ? { encrypted_env } : {}),
    });
    say('Updated: in force at the next start');
  } else {
    const { hash } = await call('GetComposeHash', { compose_file });
    const app_id = field('app_id').value.trim();
    const encrypted_env = await seal(app_id.replace(/^0x/, '') || hash.slice(0, 40));
    const { id } = await call('CreateVm', {
      name: field('name').value, compose_file, user_config, ...common, ...urls, ports: portsOf(),
      stopped: field('stopped').checked, ...(app_id ? { app_id } : {}), ...(encrypted_env ? { encrypted_env } : {}),
    });
    open = id;
    say('Created ' + id);
  }
  byId('dialog').close();
  await refresh();
}
byId('search').oninput = run(() => { page = 1; return refresh(); });
byId('previous').onclick = run(() => { page -= 1; return refresh(); });
byId('next').onclick = run(() => { page += 1; return refresh(); });
byId('new').onclick = run(() => edit());
byId('refresh').onclick = run(refresh);
byId('reload').onclick = run(async () => {
  const { loaded, updated, removed } = await call('ReloadVms');
  say('Reloaded: ' + loaded + ' new, ' + updated + ' known, ' + removed + ' gone');
  await refresh();
});
byId('cancel').onclick = () => byId('dialog').close();
field('compose_file').onchange = run(showHash);
form.onsubmit = run(submit);
run(async () => { await refresh(); say('Ready'); })();
`;
