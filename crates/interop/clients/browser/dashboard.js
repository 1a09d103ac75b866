'use strict';
// Chromium judges the dashboard: every page with hostile names, a whole path, the keyboard, a phone, the dark.
//
// node dashboard.js http://127.0.0.1:15672 amqp://guest:guest@127.0.0.1:5672 [DIRECTORY FOR SCREENSHOTS]

const fs = require('node:fs');
const path = require('node:path');
const assert = require('node:assert');
const amqp = require('amqplib');
const axe = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const { launch, open, nothingWrong } = require('./browser');
const { Api, HOSTILE, declare, traffic } = require('./load');
const { Report } = require('./report');

const hostile = encodeURIComponent(HOSTILE);

/** A page's address, what it must show, and whether a hostile name is on it. */
const PAGES = [
  ['overview', 'overview', ['Publish', 'Confirm latency', 'Memory', 'Since the start'], false],
  ['alarms', 'alarms', ['All is well', 'Health checks'], false],
  ['costs', 'costs', ['Processor', 'orders.mail'], true],
  ['apps', 'apps', ['ledger', 'is handled by', 'Topics and subscriptions'], true],
  ['queues', 'queues', ['orders.mail', 'Add a queue'], true],
  ['queue', `queue/%2F/${hostile}`, ['x-message-ttl', 'A message that waits for longer than 1 h expires', 'it has no effect here', 'constructor', 'orders'], true],
  ['exchanges', 'exchanges', ['amq.topic', 'orders'], true],
  ['exchange', `exchange/%2F/${hostile}`, ['Where it leads', 'Bindings'], true],
  ['dead', 'dead', ['rejected', 'Redrive'], true],
  ['tail', 'tail?exchange=orders&go=1', ['Listening', 'order.created'], true],
  ['connections', 'connections', ['guest', 'running'], true],
  ['connection', null, ['AMQP 0-9-1', 'Close the connection'], true],
  ['channels', 'channels', ['confirms'], false],
  ['channel', null, ['orders.mail', 'Published'], true],
  ['users', 'users', ['guest', 'administrator'], true],
  ['user', `user/${hostile}`, ['monitoring', 'amq.topic'], true],
  ['policies', 'policies', ['max-length', 'Operator policies'], true],
  ['vhosts', 'vhosts', ['Add a virtual host'], true],
  ['definitions', 'definitions', ['Export', 'Import'], false],
  ['nothing', 'constructor', ['There is no page at this address'], false],
];

main().then((code) => process.exit(code), (error) => {
  console.error(error);
  // A connection that is still open would keep the process.
  process.exit(2);
});

async function main() {
  const [origin, url, shots] = process.argv.slice(2);
  const api = new Api(origin);
  const report = new Report('chromium');
  await declare(api);
  const load = await traffic(url);
  const browser = await launch();
  const judge = { report, api, origin, url, browser, shots, pages: await withAddresses(api) };
  if (shots) fs.mkdirSync(shots, { recursive: true });
  try {
    await theFiles(judge);
    await eachPage(judge);
    await narrow(judge);
    await doings(judge);
    await keyboard(judge);
    await report.run('a page of ten thousand queues', () => tenThousand(judge));
  } finally {
    await browser.close();
    await load.stop();
  }
  return report.end();
}

/** The pages of one connection and one channel, whose names are known only now. */
async function withAddresses(api) {
  for (let look = 0; look < 50; look++) {
    const [connection] = await api.send('GET', '/api/connections');
    const channels = await api.send('GET', '/api/channels');
    const channel = channels.find(({ consumer_count: consumers }) => consumers > 0);
    if (connection && channel) {
      const known = { connection: `connection/${encodeURIComponent(connection.name)}`, channel: `channel/${encodeURIComponent(channel.name)}` };
      return PAGES.map(([name, address, texts, named]) => ({ name, address: address ?? known[name], texts, named }));
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error('the API does not list the connection and its channels');
}

async function login(page, origin, name = 'guest', password = 'guest') {
  await page.goto(`${origin}/`);
  await page.fill('input[name=name]', name);
  await page.fill('input[name=password]', password);
  await page.keyboard.press('Enter');
  await page.waitForSelector('nav a', { state: 'attached' });
}

async function visit(page, { address, texts }) {
  await page.evaluate((to) => { location.hash = `#/${to}`; }, address);
  for (const text of texts) await page.locator('main').getByText(text).first().waitFor({ state: 'attached' });
}

async function axeFindsNothing(page) {
  // The page's policy keeps scripts out of it, so the checks come in by the debugger.
  const found = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ['violations'] })`);
  const grave = found.violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  if (grave.length > 0) {
    throw new Error(grave.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html, failureSummary }) => `${html} ${failureSummary}`).join(', ')}`).join('; '));
  }
}

async function screenshot(judge, page, name) {
  if (judge.shots) await page.screenshot({ path: path.join(judge.shots, `${name}.png`), fullPage: true });
}

async function theFiles({ report, origin }) {
  await report.run('policy and caching of the files', async () => {
    const first = await fetch(`${origin}/`);
    const policy = first.headers.get('content-security-policy') ?? '';
    for (const needed of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]) {
      if (!policy.includes(needed)) throw new Error(`no ${needed} in ${policy}`);
    }
    if (/unsafe|https?:/.test(policy)) throw new Error(policy);
    const again = await fetch(`${origin}/app.js`, { headers: { 'if-none-match': (await fetch(`${origin}/app.js`)).headers.get('etag') } });
    if (again.status !== 304) throw new Error(`a file that is known: ${again.status}`);
    const missing = await fetch(`${origin}/no-such-file.js`);
    if (missing.status !== 404) throw new Error(`a file that is not there: ${missing.status}`);
  });
}

/** Each page in light and dark: what it shows, its errors, and axe's findings. */
async function eachPage(judge) {
  const { report, browser, origin, pages } = judge;
  for (const colorScheme of ['light', 'dark']) {
    const page = await open(browser, origin, { colorScheme });
    await login(page, origin);
    for (const one of pages) {
      await report.run(`${one.name}, ${colorScheme}`, async () => {
        await visit(page, one);
        if (one.named) await page.locator('main').getByText('<script>').first().waitFor({ state: 'attached' });
        if (await page.locator('main script').count() > 0) throw new Error('a name became a script');
        await screenshot(judge, page, `${one.name}-${colorScheme}`);
        await axeFindsNothing(page);
        nothingWrong(page);
      });
    }
    await page.context().close();
  }
}

/** Nothing is wider than a phone, and the menu opens. */
async function narrow(judge) {
  const { report, browser, origin, pages } = judge;
  const page = await open(browser, origin, { viewport: { width: 375, height: 800 }, hasTouch: true, isMobile: true });
  await login(page, origin);
  for (const one of pages) {
    await report.run(`${one.name}, phone`, async () => {
      await visit(page, one);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (over > 0) throw new Error(`it is ${over} px wider than the screen`);
      await screenshot(judge, page, `${one.name}-phone`);
      nothingWrong(page);
    });
  }
  await report.run('the menu on a phone', async () => {
    await page.getByRole('button', { name: 'Menu' }).tap();
    await page.getByRole('link', { name: 'Queues', exact: true }).tap();
    await page.getByRole('heading', { name: 'Queues', level: 1 }).waitFor();
    if (await page.locator('nav').isVisible()) throw new Error('the menu stays open');
    nothingWrong(page);
  });
  await page.context().close();
}

async function doings(judge) {
  const { report, browser, origin, url, api } = judge;
  const page = await open(browser, origin);
  await report.run('a wrong password is said', async () => {
    await page.goto(`${origin}/`);
    await page.getByRole('button', { name: 'Log in' }).waitFor();
    await axeFindsNothing(page);
    await page.fill('input[name=name]', 'guest');
    await page.fill('input[name=password]', 'wrong');
    await page.keyboard.press('Enter');
    await page.getByText('Name or password is wrong').waitFor();
    page.wrongs.length = 0;
  });
  await login(page, origin);
  await report.run('declare, publish, browse, dead-letter, redrive', () => wholePath(page, url));
  await report.run('figures change by themselves', async () => {
    await page.evaluate(() => { location.hash = '#/queue/%2F/path.dead'; });
    await page.getByRole('heading', { name: 'path.dead' }).waitFor();
    const ready = page.locator('.figure', { hasText: 'Ready' }).locator('.figure-value');
    await ready.filter({ hasText: /^0$/ }).waitFor();
    await api.send('POST', '/api/exchanges/%2F/amq.default/publish', { properties: {}, routing_key: 'path.dead', payload: 'x', payload_encoding: 'string' });
    await ready.filter({ hasText: /^1$/ }).waitFor();
    const state = await page.locator('.live').getAttribute('data-state');
    if (state !== 'live') throw new Error(`the stream is ${state}`);
    nothingWrong(page);
  });
  await report.run('and without a stream by asking', async () => {
    await page.route('**/api/stream*', (route) => route.fulfill({ status: 404, body: '{}' }));
    await page.reload();
    await page.locator('.live[data-state=polling]').waitFor();
    const ready = page.locator('.figure', { hasText: 'Ready' }).locator('.figure-value');
    await page.getByRole('button', { name: 'Purge' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Purge' }).click();
    await ready.filter({ hasText: /^0$/ }).waitFor();
    await page.unroute('**/api/stream*');
    page.wrongs.length = 0;
  });
  await report.run('pause and resume', async () => {
    await page.getByRole('button', { name: 'Pause' }).click();
    await page.getByText('This queue is paused').waitFor();
    await page.getByRole('button', { name: 'Resume' }).click();
    await page.getByText('This queue is paused').waitFor({ state: 'detached' });
    nothingWrong(page);
  });
  await report.run('move messages, close a connection', () => moveAndClose(page, url));
  await report.run('bind, unbind, delete', () => bindings(page));
  await report.run('users, permissions, policies, virtual hosts', () => administration(page));
  await report.run('definitions out and in', () => definitions(page));
  await report.run('search, sort and pages of queues', () => lists(page));
  await page.context().close();
  await report.run('who is no administrator sees less', async () => {
    const other = await open(browser, origin);
    await login(other, origin, HOSTILE, 'secret');
    await other.getByRole('link', { name: 'Queues', exact: true }).waitFor();
    if (await other.getByRole('link', { name: 'Users' }).count() > 0) throw new Error('Users is in the menu');
    await other.getByRole('button', { name: 'Log out' }).click();
    await other.getByRole('button', { name: 'Log in' }).waitFor();
    await other.context().close();
  });
}

async function fillDialog(page, values) {
  const dialog = page.getByRole('dialog');
  for (const [label, value] of Object.entries(values)) await dialog.getByLabel(label, { exact: true }).fill(value);
}

async function argument(page, name, value) {
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Add a line' }).click();
  await dialog.getByLabel('Arguments: name').last().fill(name);
  await dialog.getByLabel('Arguments: name').last().press('Tab');
  await dialog.getByLabel('Arguments: value').last().fill(value);
}

async function addQueue(page, name, given = {}) {
  await page.evaluate(() => { location.hash = '#/queues'; });
  await page.getByRole('button', { name: 'Add a queue' }).click();
  await fillDialog(page, { Name: name });
  for (const [key, value] of Object.entries(given)) await argument(page, key, value);
  await page.getByRole('dialog').getByRole('button', { name: 'Add', exact: true }).click();
  await page.getByRole('heading', { name, level: 1 }).waitFor();
}

async function wholePath(page, url) {
  await addQueue(page, 'path.dead');
  await addQueue(page, 'path.work', { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'path.dead' });
  await page.getByRole('button', { name: 'Publish' }).click();
  await page.getByRole('dialog').getByLabel('Body', { exact: true }).fill('{"order": 4711}');
  await page.getByRole('dialog').getByRole('button', { name: 'Publish' }).click();
  await page.getByText('Published.').waitFor();
  await page.getByRole('button', { name: 'Close', exact: true }).first().click();
  await page.getByRole('button', { name: 'Browse' }).click();
  await page.locator('.message summary').click();
  await page.getByText('"order": 4711').last().waitFor();
  await page.locator('.figure', { hasText: 'Ready' }).getByText('1', { exact: true }).waitFor();
  const connection = await amqp.connect(url);
  const channel = await connection.createChannel();
  channel.nack(await channel.get('path.work'), false, false);
  await channel.close();
  await connection.close();
  await page.evaluate(() => { location.hash = '#/dead'; });
  const row = page.getByRole('row', { name: /path\.dead/ });
  await row.getByText('rejected').waitFor();
  await row.getByText('path.work').waitFor();
  await row.getByRole('button', { name: 'Redrive' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Redrive' }).click();
  await page.getByText('1 letter moved.').waitFor();
  await page.evaluate(() => { location.hash = '#/queue/%2F/path.work'; });
  await page.locator('.figure', { hasText: 'Ready' }).getByText('1', { exact: true }).waitFor();
  nothingWrong(page);
}

/** What is ready goes to another queue; a connection is closed, and its client told why. */
async function moveAndClose(page, url) {
  await page.evaluate(() => { location.hash = '#/queue/%2F/path.work'; });
  await page.getByRole('button', { name: 'Move', exact: true }).click();
  await fillDialog(page, { 'Its name': 'path.dead' });
  await page.getByRole('dialog').getByRole('button', { name: 'Move' }).click();
  await page.getByText('1 message moved.').waitFor();
  await page.locator('.figure', { hasText: 'Ready' }).getByText('0', { exact: true }).waitFor();
  await page.evaluate(() => { location.hash = '#/queue/%2F/path.dead'; });
  await page.locator('.figure', { hasText: 'Ready' }).getByText('1', { exact: true }).waitFor();
  const connection = await amqp.connect(url);
  // What an operator does is no error for this client.
  const closed = new Promise((resolve) => connection.on('close', resolve));
  const { localPort, remotePort } = connection.connection.stream;
  const name = encodeURIComponent(`127.0.0.1:${localPort} -> 127.0.0.1:${remotePort}`);
  await page.evaluate((address) => { location.hash = address; }, `#/connection/${name}`);
  await page.getByRole('button', { name: 'Close the connection' }).click();
  await fillDialog(page, { Reason: 'enough is enough' });
  await page.getByRole('dialog').getByRole('button', { name: 'Close the connection' }).click();
  assert.match((await closed).message, /320.*enough is enough/);
  await page.getByRole('heading', { name: 'Connections', level: 1 }).waitFor();
  nothingWrong(page);
}

async function bindings(page) {
  await page.evaluate(() => { location.hash = '#/exchanges'; });
  await page.getByRole('button', { name: 'Add an exchange' }).click();
  await fillDialog(page, { Name: 'path.events' });
  await page.getByRole('dialog').getByLabel('Type').selectOption('topic');
  await page.getByRole('dialog').getByRole('button', { name: 'Add', exact: true }).click();
  await page.getByRole('heading', { name: 'path.events', level: 1 }).waitFor();
  await page.getByRole('button', { name: 'Bind' }).click();
  await fillDialog(page, { Name: 'path.dead', 'Routing key': 'a.#' });
  await page.getByRole('dialog').getByRole('button', { name: 'Bind' }).click();
  await page.locator('main svg').getByText('path.dead').first().waitFor({ state: 'attached' });
  await page.getByRole('button', { name: 'Close', exact: true }).first().click();
  await page.getByRole('button', { name: /^Unbind/ }).click();
  await page.getByText('Nothing is bound to it').waitFor();
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('heading', { name: 'Exchanges', level: 1 }).waitFor();
  nothingWrong(page);
}

async function administration(page) {
  await page.evaluate(() => { location.hash = '#/users'; });
  await page.getByRole('button', { name: 'Add a user' }).click();
  await fillDialog(page, { Name: 'reader', Password: 'a long password', Tags: 'management' });
  await page.getByRole('dialog').getByRole('button', { name: 'Add', exact: true }).click();
  await page.getByRole('heading', { name: 'reader', level: 1 }).waitFor();
  await page.getByRole('button', { name: 'Set permissions' }).click();
  await page.getByRole('dialog').getByLabel(/^Configure/).fill('^$');
  await page.getByRole('dialog').getByRole('button', { name: 'Set' }).click();
  await page.getByText('^$', { exact: true }).waitFor();
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('heading', { name: 'Users', level: 1 }).waitFor();
  await page.evaluate(() => { location.hash = '#/policies'; });
  await page.getByRole('button', { name: 'Add a policy' }).click();
  await fillDialog(page, { Name: 'short', Pattern: '^path' });
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Add a line' }).click();
  await dialog.getByLabel('Definition: name').fill('max-length');
  await dialog.getByLabel('Definition: name').press('Tab');
  await dialog.getByLabel('Definition: value').fill('7');
  await dialog.getByRole('button', { name: 'Add', exact: true }).click();
  await page.getByText('max-length: 7').waitFor();
  await page.evaluate(() => { location.hash = '#/queue/%2F/path.dead'; });
  await page.getByText('At most 7 messages').waitFor();
  await page.evaluate(() => { location.hash = '#/policies'; });
  await page.getByRole('row', { name: /short/ }).getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await page.getByText('max-length: 7').waitFor({ state: 'detached' });
  await page.evaluate(() => { location.hash = '#/vhosts'; });
  await page.getByRole('button', { name: 'Add a virtual host' }).click();
  await fillDialog(page, { Name: 'shop', Description: 'of the shop' });
  await page.getByRole('dialog').getByRole('button', { name: 'Add', exact: true }).click();
  await page.getByText('of the shop').waitFor();
  await page.getByRole('row', { name: /shop/ }).getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByLabel(/to be sure/).fill('shop');
  await page.getByRole('dialog').getByRole('button', { name: 'Delete everything in it' }).click();
  await page.getByText('of the shop').waitFor({ state: 'detached' });
  nothingWrong(page);
}

async function definitions(page) {
  await page.evaluate(() => { location.hash = '#/definitions'; });
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Export' }).click()]);
  const file = await download.path();
  const found = JSON.parse(fs.readFileSync(file, 'utf8'));
  if (!found.queues.some(({ name }) => name === 'path.dead')) throw new Error('the exported file lacks a queue');
  await page.setInputFiles('#definitions-file', { name: 'definitions.json', mimeType: 'application/json', buffer: fs.readFileSync(file) });
  await page.getByRole('button', { name: 'Import' }).click();
  await page.getByText('is imported').waitFor();
  nothingWrong(page);
}

async function lists(page) {
  await page.evaluate(() => { location.hash = '#/queues'; });
  await page.getByRole('searchbox').fill('path.');
  await page.getByText(/2 of [\d,]+ queues/).waitFor();
  await page.getByRole('button', { name: 'Name' }).click();
  await page.getByRole('button', { name: 'Name' }).click();
  await page.locator('th[aria-sort=descending]').waitFor();
  await page.waitForFunction(() => document.querySelector('tbody th')?.innerText.includes('path.work'));
  if (!page.url().includes('q=path.')) throw new Error('the search is not in the address');
  nothingWrong(page);
}

async function keyboard({ report, browser, origin }) {
  const page = await open(browser, origin);
  await login(page, origin);
  const at = (text) => page.getByRole('heading', { name: text, level: 1 }).waitFor();
  await report.run('the keyboard', async () => {
    await page.reload();
    await at('Overview');
    await page.evaluate(() => document.activeElement.blur());
    await page.keyboard.press('Tab');
    const first = await page.evaluate(() => document.activeElement.textContent);
    if (first !== 'Skip to content') throw new Error(`Tab goes to ${first} first`);
    await page.keyboard.press('Enter');
    if (await page.evaluate(() => document.activeElement.id) !== 'main') throw new Error('the skip link does not skip');
    await page.keyboard.press('g');
    await page.keyboard.press('q');
    await at('Queues');
    await page.locator('tbody th a').first().waitFor();
    await page.keyboard.press('j');
    await page.keyboard.press('j');
    await page.keyboard.press('k');
    const row = await page.evaluate(() => document.activeElement.closest('tr')?.rowIndex);
    if (row !== 1) throw new Error(`j j k is at row ${row}`);
    await page.keyboard.press('/');
    if (await page.evaluate(() => document.activeElement.type) !== 'search') throw new Error('/ does not go to the search');
    await page.keyboard.type('ghost');
    if (await page.inputValue('input[type=search]') !== 'ghost') throw new Error('keys that are typed do something else');
    await page.evaluate(() => document.activeElement.blur());
    await page.keyboard.press('?');
    const dialog = page.getByRole('dialog', { name: 'Keyboard shortcuts' });
    await dialog.waitFor();
    await axeFindsNothing(page);
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    await page.keyboard.press('n');
    await page.getByRole('dialog', { name: 'Add a queue' }).waitFor();
    await axeFindsNothing(page);
    await page.keyboard.press('Escape');
    nothingWrong(page);
  });
  await report.run('light and dark by hand, and remembered', async () => {
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await ground();
    await page.keyboard.press('b');
    const dark = await ground();
    if (light === dark) throw new Error(`both are ${light}`);
    await page.reload();
    await at('Queues');
    if (await ground() !== dark) throw new Error('it is forgotten');
    nothingWrong(page);
  });
  await report.run('focus stays while rows change', async () => {
    await page.evaluate(() => { location.hash = '#/queues?sort=messages_ready&desc=1'; });
    await page.locator('tbody th a').first().waitFor();
    await page.locator('tbody th a').first().focus();
    const before = await page.evaluate(() => document.activeElement.textContent);
    await page.waitForTimeout(5000);
    const after = await page.evaluate(() => document.activeElement.textContent);
    if (before !== after) throw new Error(`it was on ${before} and is on ${after}`);
  });
  await page.context().close();
}

/** How long it takes from the click on the menu until a hundred of ten thousand queues are drawn. */
async function tenThousand({ api, browser, origin, url }) {
  const QUEUES = 10_000;
  await api.send('PUT', '/api/vhosts/many', {});
  await api.send('PUT', '/api/permissions/many/guest', { configure: '.*', write: '.*', read: '.*' });
  const connection = await amqp.connect(`${url}/many`);
  const channel = await connection.createChannel();
  for (let from = 0; from < QUEUES; from += 500) {
    await Promise.all(Array.from({ length: 500 }, (_, at) => channel.assertQueue(`many.${from + at}`, { durable: false })));
  }
  const page = await open(browser, origin);
  await login(page, origin);
  await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
  const times = [];
  for (let look = 0; look < 3; look++) {
    await page.evaluate(() => { location.hash = '#/overview'; });
    await page.getByText('Since the start').waitFor();
    times.push(await page.evaluate(() => new Promise((resolve) => {
      const start = performance.now();
      const seen = () => (document.querySelectorAll('tbody tr').length >= 100 && document.querySelector('h1').textContent === 'Queues'
        ? requestAnimationFrame(() => resolve(performance.now() - start)) : requestAnimationFrame(seen));
      location.hash = '#/queues';
      seen();
    })));
  }
  await page.getByText(/10,\d{3} queues/).waitFor();
  nothingWrong(page);
  await page.context().close();
  await connection.close();
  await api.send('DELETE', '/api/vhosts/many');
  return `drawn within ${times.map((time) => `${Math.round(time)} ms`).join(', ')}`;
}
