// The chat in two browsers, perhaps of two programs: what is typed in one is seen in both. Their addresses are the arguments.
"use strict";

const { run } = require("./browser.js");

run(async (open) => {
  const [here, there] = process.argv.slice(2);
  const ann = await open(here);
  const bob = await open(there);
  for (const page of [ann, bob]) {
    await page.waitForFunction("socket.readyState === WebSocket.OPEN");
  }
  await say(ann, "hello, Bob");
  await say(bob, "hello, Ann; <b>is it you?</b>");
  const said = ["hello, Bob", "hello, Ann; <b>is it you?</b>"];
  for (const [name, page] of [["ann", ann], ["bob", bob]]) {
    await page.waitForFunction((count) => document.querySelectorAll("#said li").length === count, said.length);
    const seen = await page.locator("#said li").allTextContents();
    if (JSON.stringify(seen) !== JSON.stringify(said)) throw new Error(`${name} sees ${JSON.stringify(seen)}`);
    console.log(`ok      ${name} sees ${JSON.stringify(seen)}`);
  }
});

// As a person does: into the field, and on the button.
async function say(page, text) {
  const before = await page.locator("#said li").count();
  await page.getByLabel("Say something").fill(text);
  await page.getByRole("button", { name: "Say it" }).click();
  await page.waitForFunction((count) => document.querySelectorAll("#said li").length > count, before);
}
