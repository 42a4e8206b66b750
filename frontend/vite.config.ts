import { fileURLToPath } from "node:url";

import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vitest/config";

import { mockApi } from "./dev/mock-api.ts";

const service = process.env["CAPTIONLOOP_URL"] ?? "http://127.0.0.1:3000";

export default defineConfig(({ mode }) => ({
  // Relative addresses, so that the same files work at `/` and under an ingress path.
  base: "./",
  // Comments stay out of the page while developing too: a comment beside a root element makes two roots.
  plugins: [
    vue({ template: { compilerOptions: { comments: false } } }),
    ...(mode === "mock" ? [mockApi()] : []),
  ],
  resolve: { alias: { "@": fileURLToPath(new URL("./src", import.meta.url)) } },
  server: mode === "mock" ? {} : { proxy: { "/v1": service } },
  build: {
    target: "es2022",
    // Nothing inlined: the content security policy allows files of this host only.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  test: { environment: "happy-dom", include: ["tests/**/*.test.ts"], restoreMocks: true, isolate: false },
}));
