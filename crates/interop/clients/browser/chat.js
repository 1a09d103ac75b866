'use strict';
// The chat of the SDK's examples in two browsers, perhaps of two programs: what is typed in one is seen in both.
//
// node chat.js http://127.0.0.1:8080 http://127.0.0.1:8081

const { launch, open, nothingWrong } = require('./browser');

/** What is said; the second text must stay a text. */
const SAID = ['hello, Bob', 'hello, Ann; <b>is it you?</b>'];

async function join(browser, url) {
  const page = await open(browser, new URL(url).origin);
  await page.goto(url, { waitUntil: 'load' });
  await page.waitForFunction('socket.readyState === WebSocket.OPEN');
  return page;
}

/** As a person does: into the field, and on the button. Whoever says it sees it, too. */
async function say(page, text) {
  await page.getByLabel('Say something').fill(text);
  await page.getByRole('button', { name: 'Say it' }).click();
  await page.locator('#said li', { hasText: text }).waitFor();
}

async function main() {
  const [here, there = here] = process.argv.slice(2);
  const browser = await launch();
  try {
    const pages = [['ann', await join(browser, here)], ['bob', await join(browser, there)]];
    for (const [number, [, page]] of pages.entries()) await say(page, SAID[number]);
    for (const [name, page] of pages) {
      await page.waitForFunction((count) => document.querySelectorAll('#said li').length >= count, SAID.length);
      const seen = JSON.stringify(await page.locator('#said li').allTextContents());
      if (seen !== JSON.stringify(SAID)) throw new Error(`${name} sees ${seen}`);
      nothingWrong(page);
      console.log(`ok      ${name} sees ${seen}`);
    }
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(`FAILED  ${error.stack}`);
  process.exitCode = 1;
});
