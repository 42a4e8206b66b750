/**
 * A model card's Markdown as HTML that is safe to show. The card is untrusted text: raw HTML in it is escaped, images
 * are dropped (they would ask other hosts), and markdown-it itself refuses `javascript:` and its like in links.
 */
import MarkdownIt from "markdown-it";

/** The card's own title stands below the page's title and its section's. */
const LEVELS_DOWN = 2;

const markdown = new MarkdownIt("commonmark", { html: false, linkify: false })
  .enable("table")
  .disable("image");

markdown.core.ruler.push("headings-below-the-section", (state) => {
  for (const token of state.tokens) {
    if (!token.type.startsWith("heading_")) continue;
    token.tag = `h${String(Math.min(6, Number(token.tag.slice(1)) + LEVELS_DOWN))}`;
  }
});

markdown.renderer.rules["link_open"] = (tokens, index, options, _env, renderer): string => {
  tokens[index]?.attrSet("rel", "noopener noreferrer nofollow");
  return renderer.renderToken(tokens, index, options);
};
// A wide table scrolls in its own frame, which the keyboard reaches too.
markdown.renderer.rules["table_open"] = (): string => '<div class="scroll" tabindex="0"><table>';
markdown.renderer.rules["table_close"] = (): string => "</table></div>";

// The alignment of a column comes as a style attribute, which the content security policy refuses.
const ALIGNMENT = /^text-align:(left|center|right)$/;
for (const cell of ["th_open", "td_open"]) {
  markdown.renderer.rules[cell] = (tokens, index, options, _env, renderer): string => {
    const token = tokens[index];
    const side = ALIGNMENT.exec(String(token?.attrGet("style") ?? ""))?.[1];
    if (token) token.attrs = side === undefined ? null : [["class", side]];
    return renderer.renderToken(tokens, index, options);
  };
}

export function renderCard(card: string): string {
  return markdown.render(card);
}
