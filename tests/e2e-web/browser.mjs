// Chromium as the tests use it: every complaint of a page is kept, and a page is asked for its accessibility.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** What Chromium says when the monitor is away or refuses: wanted in the parts where it is. */
const NETWORK = /^Failed to load resource: (net::ERR_|the server responded with a status of 401)/;

/** Starts Chromium: `CHROMIUM`, or the first one on the PATH. */
export async function launch() {
  const names = process.env.CHROMIUM ? [process.env.CHROMIUM] : ["chromium", "chromium-browser", "google-chrome"];
  const executablePath = names.map(onPath).find(Boolean);
  if (!executablePath) throw new Error("no Chromium: install the package chromium, or name one in CHROMIUM");
  // Its sandbox does not start as root, as in a container.
  const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({ executablePath, args });
}

/**
 * A page whose complaints are kept: console errors and warnings, uncaught errors, refusals by the Content-Security-Policy.
 * @param {import("playwright-core").BrowserContext} context
 */
export async function watchedPage(context) {
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  const troubles = [];
  /** Set while the monitor is away on purpose. */
  let networkMayFail = false;
  page.on("console", (message) => {
    if (!["error", "warning"].includes(message.type())) return;
    if (!(networkMayFail && NETWORK.test(message.text()))) troubles.push(`console ${message.type()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => troubles.push(`uncaught: ${error.message}`));
  page.on("crash", () => troubles.push("the page crashed"));
  await page.exposeFunction("reportViolation", (what) => troubles.push(`Content-Security-Policy: ${what}`));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      window.reportViolation(`${event.violatedDirective} ${event.blockedURI}`);
    });
  });
  return { page, troubles, allowNetworkErrors: (may) => (networkMayFail = may) };
}

/**
 * Fails on findings of axe-core that are serious or critical.
 * @param {import("playwright-core").Page} page
 * @param {string} where for the message
 */
export async function accessible(page, where) {
  const session = await page.context().newCDPSession(page);
  // Not a script element: the page's policy allows none but its own.
  await session.send("Runtime.evaluate", { expression: axe });
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  await session.detach();
  const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  const told = grave.map(({ impact, id, help, nodes }) =>
    `${impact} ${id}: ${help}\n${nodes.slice(0, 5).map((node) => `    ${node.target.join(" ")}`).join("\n")}`);
  if (told.length > 0) throw new Error(`axe-core on ${where}:\n${told.join("\n")}`);
}

function onPath(name) {
  for (const folder of name.includes("/") ? [""] : (process.env.PATH ?? "").split(delimiter)) {
    const file = folder ? join(folder, name) : name;
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // The next one.
    }
  }
  return undefined;
}
