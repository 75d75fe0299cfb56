// The token travels behind the #, which no browser sends: it fills the form and is gone from the address.

const token = decodeURIComponent(location.hash.slice(1));
if (token && !token.includes("/")) {
  history.replaceState(null, "", location.pathname);
  document.getElementById("token").value = token;
  document.forms[0].submit();
}
