// Usage: node look.mjs CHROMIUM URL DIRECTORY
//
// Looks at a page in Chromium: light, dark and on a phone. Writes a picture of each into DIRECTORY and
// prints what axe-core finds, what the browser complains of, and what the page tells a screen reader.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [executablePath, url, directory] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf-8");
const views = [
  { name: "light", colorScheme: "light", width: 1280 },
  { name: "dark", colorScheme: "dark", width: 1280 },
  { name: "phone", colorScheme: "light", width: 390 },
];
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const seen = {};
for (const { name, colorScheme, width } of views) {
  // Only axe-core's own script passes by the policy; the page itself is loaded with it in force.
  const context = await browser.newContext({ colorScheme, viewport: { width, height: 900 } });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => {
    // Chromium asks for an icon by itself.
    if (!message.location().url.endsWith("/favicon.ico")) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("dialog", (dialog) => { complaints.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  const requests = [];
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(url);
  await page.screenshot({ path: join(directory, `${name}.png`), fullPage: true });
  const scrollsSideways = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  const session = await context.newCDPSession(page);
  await session.send("Page.setBypassCSP", { enabled: true });
  await page.reload();
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run());
  seen[name] = {
    complaints,
    requests: [...new Set(requests)],
    scrollsSideways,
    violations: violations.map(({ id, help, nodes }) => ({ id, help, nodes: nodes.map((node) => node.html.slice(0, 200)) })),
    reader: await page.locator("body").ariaSnapshot(),
  };
  await context.close();
}
await browser.close();
console.log(JSON.stringify(seen));
