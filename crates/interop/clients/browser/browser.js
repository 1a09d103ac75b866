// A real browser for scenarios: the Chromium at the path in $CHROMIUM, without a window. Whatever a page complains about is a failure:
// an error on its console, an exception nobody catches, a request that fails or is answered with an error.
"use strict";

const { chromium } = require("playwright-core");

// How long something may take that is to happen, in milliseconds.
const PATIENCE = 20_000;

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

// Runs a scenario, which is given `open(url)` to open a page, each in a browser window of its own without cookies of the others. Exits with
// 1 if it fails or a page has complained, and says why.
async function run(scenario) {
  const complaints = [];
  let browser;
  try {
    const executablePath = process.env.CHROMIUM;
    if (!executablePath) throw new Error("CHROMIUM is to be the path of a Chromium");
    browser = await chromium.launch({ executablePath, args: FLAGS });
    await scenario(async (url) => open(browser, url, complaints));
  } catch (error) {
    complaints.push(error.stack ?? String(error));
  } finally {
    await browser?.close();
  }
  complaints.forEach((complaint) => console.error(`FAILED  ${complaint}`));
  process.exitCode = complaints.length > 0 ? 1 : 0;
}

async function open(browser, url, complaints) {
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(PATIENCE);
  const complain = (text) => complaints.push(`${url}: ${text}`);
  page.on("console", (message) => message.type() === "error" && complain(`console: ${message.text()}`));
  page.on("pageerror", (error) => complain(`exception: ${error.message}`));
  page.on("requestfailed", (request) => complain(`${request.url()}: ${request.failure()?.errorText}`));
  page.on("response", (answer) => answer.status() >= 400 && complain(`${answer.url()}: ${answer.status()}`));
  await page.goto(url, { waitUntil: "load" });
  return page;
}

module.exports = { run };
