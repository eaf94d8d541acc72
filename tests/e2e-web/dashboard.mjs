// Drives Chromium against a live monitor. tests/integration/tests/dashboard.rs starts it, and plants and heals what is seen.
// Usage: node dashboard.mjs --url URL --screenshots FOLDER [--login-url URL --token TOKEN]

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { accessible, launch, watchedPage } from "./browser.mjs";
import { hangUp, say, step } from "./partner.mjs";

const { values: flags } = parseArgs({
  options: { url: { type: "string" }, screenshots: { type: "string" }, "login-url": { type: "string" }, token: { type: "string" } },
});
assert.ok(flags.url && flags.screenshots, "usage: dashboard.mjs --url URL --screenshots FOLDER");
mkdirSync(flags.screenshots, { recursive: true });

const browser = await launch();
try {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  const watched = await watchedPage(context);
  await dashboard(watched);
  if (flags["login-url"]) await login(watched);
  assert.deepEqual(watched.troubles, [], "the page complained");
  say({ step: "done" });
} finally {
  hangUp();
  await browser.close();
}

async function dashboard(watched) {
  const { page } = watched;
  await page.goto(flags.url);
  await verdict(page, "good", "Consistent");
  await page.locator("#connection[data-state=live]").waitFor();
  // A reload would lose this mark.
  await page.evaluate(() => (window.sameDocument = true));
  await page.getByText("No differences: the last check with a verdict").waitFor();
  await accessible(page, "the dashboard without differences");

  await step("opened", "stopped");
  await verdict(page, "warn", "Consistent, but no synchronizer is running");
  const planted = JSON.parse(await step("stopped-seen", "planted"));
  await verdict(page, "bad", "Not consistent: 1 key missed");
  await row(page, planted.missed).waitFor();
  await row(page, planted.surplus).waitFor();
  await filters(page, planted);
  await keyboard(page);
  await copies(page, planted);
  await checkNow(page, planted);
  await themes(page);

  await step("checked", "healed");
  // By the periodic checks of the keys.
  await row(page, planted.missed).waitFor({ state: "detached" });
  await row(page, planted.surplus).waitFor({ state: "detached" });
  await verdict(page, "bad", "Not consistent: 1 value mismatched");
  await page.locator("#check-deep").check();
  await page.locator("#check-button").click();
  await verdict(page, "good", "Consistent");
  await page.locator("#check-deep").uncheck();
  await page.getByText("No differences: the last check with a verdict").waitFor();
  await timeline(page);
  await page.locator("#theme input[value=light]").check();
  await shot(page, "dashboard-light", "#timeline");

  await step("healed-seen", "primary-away");
  await page.getByRole("heading", { name: "The primary cannot be reached", exact: true }).waitFor();
  await verdict(page, "unknown", "Cannot tell");
  await step("primary-away-seen", "primary-back");
  await verdict(page, "good", "Consistent");

  watched.allowNetworkErrors(true);
  await step("primary-back-seen", "monitor-away");
  await page.getByRole("heading", { name: "This page lost the monitor" }).waitFor();
  await verdict(page, "stale", "Last known: consistent");
  await page.getByText("Not possible: the monitor cannot be reached.").waitFor();
  await step("monitor-away-seen", "monitor-back");
  await page.locator("#connection[data-state=live]").waitFor();
  await verdict(page, "good", "Consistent");
  watched.allowNetworkErrors(false);
  assert.equal(await page.evaluate(() => window.sameDocument), true, "the page was loaded again on the way");
  await narrow(page);
}

/** Waits for the words of the verdict, and for the tone, which colour and shape follow. */
async function verdict(page, tone, title) {
  await page.locator(`#verdict[data-tone=${tone}]:has(svg.shape-${tone}) h1`, { hasText: title }).waitFor();
}

function row(page, key) {
  return page.locator("#differences-rows tr", { has: page.locator("code.key", { hasText: key }) });
}

/** How many rows there are once this one of them is. */
async function rows(page, count) {
  await page.locator(`#differences-rows:not(:has(tr:nth-child(${count + 1})))${count ? `:has(tr:nth-child(${count}))` : ""}`)
    .waitFor({ state: count ? "visible" : "attached" });
}

async function filters(page, planted) {
  const field = (name) => page.getByLabel(name, { exact: true });
  await rows(page, 2);
  await field("Difference").selectOption("missed");
  await row(page, planted.surplus).waitFor({ state: "detached" });
  await rows(page, 1);
  assert.equal(new URL(page.url()).searchParams.get("difference"), "missed", "the address keeps the filter");
  await field("Difference").selectOption("");
  await row(page, planted.surplus).waitFor();
  await field("Namespace").selectOption(planted.surplusNamespace);
  await row(page, planted.missed).waitFor({ state: "detached" });
  await field("Namespace").selectOption("");
  await row(page, planted.missed).waitFor();
  await field("Resource").selectOption(planted.surplusResource);
  await row(page, planted.missed).waitFor({ state: "detached" });
  await field("Resource").selectOption("");
  await field("First seen").selectOption({ label: "Over 1 hour ago" });
  await page.getByText("No difference matches these filters.").waitFor();
  await field("First seen").selectOption({ label: "Within 1 hour" });
  await rows(page, 2);
  await field("Key holds").fill("no-key-holds-this");
  await page.getByText("No difference matches these filters.").waitFor();
  await field("Key holds").fill(planted.missed.slice(-6));
  await rows(page, 1);
  await row(page, planted.missed).waitFor();
  await page.getByRole("button", { name: "Clear", exact: true }).click();
  await rows(page, 2);
}

/** Everything that can be done can be done with the keyboard, in the order of the page. */
async function keyboard(page) {
  await page.locator(".skip").focus();
  const order = ["skip"];
  for (let presses = 0; presses < 60 && !order.includes("copy"); presses += 1) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const element = document.activeElement;
      const seen = getComputedStyle(element).outlineStyle !== "none" || element.type === "radio";
      return { name: element.id || (element.classList.contains("copy") ? "copy" : element.className || element.tagName), seen };
    });
    assert.ok(at.seen, `the focus on ${at.name} cannot be seen`);
    order.push(at.name);
  }
  const wanted = ["skip", "check-button", "check-deep", "filter-difference", "filter-namespace", "filter-resource", "filter-age", "filter-q",
    "filter-reset", "copy"];
  assert.deepEqual(order.filter((name) => wanted.includes(name)), wanted, `the order is ${order.join(", ")}`);
}

async function copies(page, planted) {
  const button = row(page, planted.missed).getByRole("button");
  const command = await row(page, planted.missed).locator(".command code").textContent();
  await button.focus();
  await page.keyboard.press("Enter");
  await row(page, planted.missed).getByRole("button", { name: "Copied the command for" }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), command);
}

/** A check with values, by keyboard: the mismatched key shows, and the focus stays on the button. */
async function checkNow(page, planted) {
  assert.equal(await row(page, planted.mismatched).count(), 0, "values were compared already");
  await page.locator("#check-button[aria-disabled=false]", { hasText: "Check now" }).waitFor();
  await page.locator("#check-deep").focus();
  await page.keyboard.press("Space");
  await page.locator("#check-button").focus();
  // A comparison may be over before this side looks: what is shown on the way is written down in the page.
  await page.evaluate(() => {
    const [form, button, bar] = ["check-now", "check-button", "check-progress"].map((id) => document.getElementById(id));
    window.seen = new Set();
    new MutationObserver(() => {
      const disabled = button.getAttribute("aria-disabled") === "true";
      if (disabled && button.textContent === "Checking…" && !bar.hidden) window.seen.add(document.getElementById("check-status").textContent);
    }).observe(form, { attributes: true, childList: true, characterData: true, subtree: true });
  });
  await page.keyboard.press("Enter");
  await row(page, planted.mismatched).waitFor();
  await verdict(page, "bad", "Not consistent: 1 key missed and 1 value mismatched");
  const seen = await page.evaluate(() => [...window.seen]);
  assert.ok(seen.some((text) => text.startsWith("Comparing keys and values: ")), `no progress was shown, only ${JSON.stringify(seen)}`);
  await page.locator("#check-button[aria-disabled=false]", { hasText: "Check now" }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "check-button", "the focus was lost");
  await page.locator("#check-deep").uncheck();
}

async function themes(page) {
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  await page.locator("#theme input[value=dark]").check();
  const dark = await background();
  assert.notEqual(dark, light, "dark looks like light");
  await accessible(page, "the dark dashboard with differences");
  await shot(page, "dashboard-dark", "#differences");
  await page.locator("#theme input[value=light]").check();
  assert.equal(await background(), light);
  await accessible(page, "the light dashboard with differences");
  await page.locator("#theme input[value=auto]").check();
  await page.emulateMedia({ colorScheme: "dark" });
  assert.equal(await background(), dark, "Auto does not follow the system");
  await page.emulateMedia({ colorScheme: "light" });
  assert.equal(await background(), light);
}

/** The arrow keys move along the checks, and the table says the same. */
async function timeline(page) {
  const marks = page.locator("#timeline .mark");
  await marks.last().focus();
  await page.keyboard.press("ArrowLeft");
  const label = await page.evaluate(() => document.activeElement.getAttribute("aria-label"));
  assert.equal(await page.locator("#strip-readout").textContent(), label);
  await page.locator("#timeline summary").click();
  await page.locator("#timeline tbody tr", { hasText: "Consistent" }).first().waitFor();
  await page.locator("#timeline summary").click();
}

/** Nothing hangs over the edge of a telephone. */
async function narrow(page) {
  for (const width of [390, 360]) {
    await page.setViewportSize({ width, height: 800 });
    const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(over <= 0, `at ${width} px the page is ${over} px too wide`);
  }
  await accessible(page, "the narrow dashboard");
  await page.setViewportSize({ width: 1280, height: 900 });
}

async function login(watched) {
  const { page } = watched;
  watched.allowNetworkErrors(true);
  await page.goto(flags["login-url"]);
  await page.getByLabel("Token").waitFor();
  for (const colorScheme of ["dark", "light"]) {
    await page.emulateMedia({ colorScheme });
    await accessible(page, `the ${colorScheme} sign-in page`);
  }
  await page.getByLabel("Token").fill(`not-${flags.token}`);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.locator("#message", { hasText: /\S/ }).waitFor();
  await accessible(page, "the sign-in page with its message");
  await page.getByLabel("Token").fill(flags.token);
  await page.keyboard.press("Enter");
  await page.locator("#connection[data-state=live]").waitFor();
  watched.allowNetworkErrors(false);
  await verdict(page, "good", "Consistent");
}

/** A picture of the page down to an element. */
async function shot(page, name, last) {
  await page.evaluate(() => { document.activeElement?.blur(); window.scrollTo(0, 0); });
  await page.mouse.move(0, 0);
  const { y, height } = await page.locator(last).boundingBox();
  const clip = { x: 0, y: 0, width: 1280, height: Math.ceil(y + height + 24) };
  await page.screenshot({ path: join(flags.screenshots, `${name}.png`), fullPage: true, clip });
}
