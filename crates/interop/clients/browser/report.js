'use strict';
// The lines that judges print, each situation with a time limit.

const SECONDS = 120;

class Report {
  constructor(client) {
    this.client = client;
    this.passed = 0;
    this.failures = 0;
  }

  async run(situation, check) {
    let timer;
    const expired = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not done within ${SECONDS} s`)), SECONDS * 1000);
    });
    try {
      const said = await Promise.race([check(), expired]);
      this.passed += 1;
      console.log(`ok ${this.client} ${situation}`);
      if (said) console.log(`observe ${this.client} ${situation} ${said}`);
    } catch (error) {
      this.failures += 1;
      const where = error.stack?.split('\n').find((line) => line.includes('/browser/') && !line.includes('report.js'))?.trim() ?? '';
      console.log(`FAIL ${this.client} ${situation}: ${String(error.message).split(/\s+/).join(' ').slice(0, 1500)} ${where}`);
    } finally {
      clearTimeout(timer);
    }
  }

  end() {
    console.log(`${this.passed} passed, ${this.failures} failed`);
    return this.failures === 0 ? 0 : 1;
  }
}

module.exports = { Report };
