'use strict';
// Debian's Chromium without a window, and what a page does wrong while it is looked at.

const { chromium } = require('playwright-core');

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];

/** Milliseconds that anything on a page may take to appear. */
const PATIENCE = 20_000;

function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
}

/**
 * A page of its own, with nothing remembered. `page.wrongs` collects errors of scripts and console, dialogs that a
 * script opened, and requests to other places than `origin`.
 */
async function open(browser, origin, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.wrongs = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') page.wrongs.push(`console: ${message.text()} ${message.location().url}`);
  });
  page.on('pageerror', (error) => page.wrongs.push(`error: ${error.stack}`));
  page.on('dialog', (dialog) => { page.wrongs.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (!['data:', 'blob:'].includes(url.protocol) && url.origin !== origin) page.wrongs.push(`asks ${url.href}`);
  });
  return page;
}

/** Throws what went wrong since the last time. */
function nothingWrong(page) {
  const wrongs = page.wrongs.splice(0);
  if (wrongs.length > 0) throw new Error(wrongs.join('; '));
}

module.exports = { launch, open, nothingWrong };
